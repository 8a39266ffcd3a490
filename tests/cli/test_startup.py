"""What a command imports: nothing heavy for its help, and only what it uses otherwise."""

import subprocess
import sys

import pytest

from pyrovae.cli.app import COMMANDS

HEAVY = {"arviz", "matplotlib", "pandas", "pyro", "sklearn", "torch", "torch._inductor", "torchvision", "xarray"}
UNUSED_BY_TORCH_AND_PYRO = HEAVY - {"pyro", "torch"}


def imported(code: str) -> set[str]:
    """The heavy libraries that a new Python process has imported after it has run `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('modules:', *sys.modules)"],
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return HEAVY & set(done.stdout.rpartition("modules:")[2].split())


def command(*words: str) -> str:
    return f"""
from typer.testing import CliRunner
from pyrovae.cli.app import app
result = CliRunner().invoke(app, {list(words)!r})
assert result.exit_code == 0, result.output
"""


def test_help_imports_nothing_heavy() -> None:
    helps = [command("--help"), *(command(name, "--help") for name in COMMANDS), command("--version")]
    assert imported("".join(helps)) == set()


def test_python_m_help_imports_nothing_heavy() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "pyrovae", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", check=True)
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in names  # the list of imports was read
    assert not HEAVY & names


@pytest.mark.parametrize("use", ["", "pyrovae.fit", "pyrovae.evaluate", "pyrovae.load", "pyrovae.guides.MeanField"])
def test_importing_the_package_costs_no_more_than_torch_and_pyro(use: str) -> None:
    """The figures, the data sets and the compiler are imported by the functions that use them."""
    needed = imported("import torch, pyro")
    assert imported(f"import pyrovae\n{use}") <= needed
    assert imported("import pyrovae") == set()
    assert not needed & UNUSED_BY_TORCH_AND_PYRO  # otherwise the line above says little


def test_models_imports_no_library_of_the_other_commands() -> None:
    assert imported(command("models")) <= {"torch", "pyro"}
