"""The command line: a file of `commands` for each command. Importing it imports no torch, so that `--help` is fast."""

import atexit
import gc
from collections.abc import Callable
from typing import Annotated

import typer

from .commands.choose import choose_command
from .commands.compare import compare_command
from .commands.diagnose import diagnose_command
from .commands.distil import distil_command
from .commands.evaluate import evaluate_command
from .commands.export import export_command
from .commands.gap import gap_command
from .commands.impute import impute_command
from .commands.models import models_command
from .commands.new import new_command
from .commands.report import report_command
from .commands.sample import sample_command
from .commands.show import show_command
from .commands.train import train_command
from .errors import report_errors
from .examples import epilog
from .processes import first_speaks
from .verbosity import with_verbosity

COMMANDS: dict[str, Callable[..., None]] = {
    "compare": compare_command,
    "choose": choose_command,
    "train": train_command,
    "evaluate": evaluate_command,
    "gap": gap_command,
    "diagnose": diagnose_command,
    "distil": distil_command,
    "impute": impute_command,
    "sample": sample_command,
    "export": export_command,
    "show": show_command,
    "report": report_command,
    "models": models_command,
    "new": new_command,
}

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Train latent-variable models in Pyro, and estimate log p(x) of each data point with its standard error.",
)
for name, command in COMMANDS.items():
    app.command(name, epilog=epilog(name))(report_errors(with_verbosity(command)))


def main() -> None:
    """Run the command line."""
    atexit.register(gc.freeze)  # else Python's end looks for garbage among all objects of torch, for about a second
    with first_speaks():
        app()


@app.callback(invoke_without_command=True)
def print_version(show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Print the version, if it is asked for. The help text of the program is that of `app`."""
    if show:
        from importlib.metadata import version

        print(version("pyrovae"))
        raise typer.Exit
