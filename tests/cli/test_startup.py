"""What a command imports: nothing heavy for its help, and only what it uses otherwise."""

import json
import subprocess
import sys

from pyrovae.cli.app import COMMANDS

HEAVY = {"arviz", "matplotlib", "pandas", "pyro", "sklearn", "torch", "torch._inductor", "torchvision", "xarray"}
REPORT = f"""
import json, sys
def report():
    print("modules:" + json.dumps(sorted({HEAVY!r} & set(sys.modules))))
"""
COMMAND = """
from typer.testing import CliRunner
from pyrovae.cli.app import app
def command(*words):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
"""


def imported(*statements: str) -> list[set[str]]:
    """The heavy libraries that a new Python process has imported after each of the statements."""
    code = REPORT + "".join(f"{statement}\nreport()\n" for statement in statements)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("modules:")]
    assert len(lines) == len(statements)
    return [set(json.loads(line.removeprefix("modules:"))) for line in lines]


def test_help_imports_nothing_heavy() -> None:
    helps = [f'command("{name}", "--help")' for name in COMMANDS]
    assert imported(COMMAND, 'command("--help")', *helps, 'command("--version")')[-1] == set()


def test_python_m_help_imports_nothing_heavy() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "pyrovae", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", check=True)
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in names  # the list of imports was read
    assert not HEAVY & names


def test_the_package_costs_no_more_than_torch_and_pyro() -> None:
    """Figures, data sets and the compiler are imported by the functions that use them, and so by the commands."""
    package, torch_and_pyro, *later = imported(
        "import pyrovae",
        "import torch, pyro",
        "pyrovae.fit, pyrovae.evaluate, pyrovae.compare, pyrovae.diagnose, pyrovae.gap, pyrovae.load_run",
        "pyrovae.load, pyrovae.load_data, pyrovae.guides.MeanField, pyrovae.likelihoods, pyrovae.objectives",
        COMMAND + 'command("models")',
    )
    assert package == set()
    assert {"torch", "pyro"} <= torch_and_pyro
    assert later == [torch_and_pyro] * 3


def test_a_command_ends_without_a_last_search_for_garbage() -> None:
    code = (
        "import atexit, gc, sys; atexit.register(lambda: print('frozen', gc.get_freeze_count()));"
        "from pyrovae.cli.app import main; sys.argv[1:] = ['--version']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    assert int(done.stdout.partition("frozen ")[2]) > 1000
