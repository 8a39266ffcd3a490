"""Commands run inside of the test's own process, and what is asked of all that they print."""

import runpy
import sys

import pyro
import pytest
from typer.testing import CliRunner, Result

from pyrovae.cli.app import app

BARS = "━╸╺\r\x1b"  # what a progress bar is drawn with


def invoke(*words: object) -> Result:
    pyro.clear_param_store()
    return CliRunner().invoke(app, list(map(str, words)))


def python_m(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """`python -m pyrovae` without the cost of another process: the exit code, and what arrives on the file descriptors."""
    pyro.clear_param_store()
    capfd.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["pyrovae", *map(str, words)])
        with pytest.raises(SystemExit) as exit:
            runpy.run_module("pyrovae", run_name="__main__")
    stdout, stderr = capfd.readouterr()
    return int(exit.value.code or 0), stdout, stderr


def said(*words: object) -> str:
    """What a command that succeeds prints; nothing on standard error, no bar anywhere."""
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert not set(BARS) & set(result.output)
    return result.stdout


def refused(*words: object, code: int = 2) -> str:
    """The one sentence of a command that is refused."""
    result = invoke(*words)
    assert result.exit_code == code, result.output
    return one_sentence(result.stderr)


def one_sentence(stderr: str) -> str:
    assert stderr.startswith("pyrovae: ")
    assert stderr.count("\n") == 1
    assert stderr.endswith("\n")
    assert "Traceback" not in stderr
    return stderr
