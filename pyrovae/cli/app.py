"""The command line: a file of `commands` for each command."""

from typing import Annotated

import typer

from .. import __version__
from .commands.compare import compare
from .commands.diagnose import diagnose
from .commands.evaluate import evaluate
from .commands.gap import gap
from .commands.models import models
from .commands.sample import sample
from .commands.train import train
from .errors import report_errors

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Latent-variable models as Pyro model/guide pairs, with a log p(x) that can be believed.",
)
for command in (compare, train, evaluate, gap, diagnose, sample, models):
    app.command()(report_errors(command))


def main() -> None:
    app()


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if show:
        print(__version__)
        raise typer.Exit
