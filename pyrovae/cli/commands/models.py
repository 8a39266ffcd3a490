"""pyrovae models: what there is, and the options of each."""

import inspect
from typing import Annotated

import typer

from ..output import console


def models_command(
    model: Annotated[str | None, typer.Argument(help="A name or a .py file. Its options are listed.")] = None,
) -> None:
    """List the models, or the options of one."""
    from rich.table import Table

    from ...loading.options import plain
    from ...loading.pairs import available, load

    if model is not None:
        pair = load(model)
        print(f"{pair.name}: {pair.summary}\n\n{inspect.getdoc(pair.module.pair) or ''}\n")
        for name, default in pair.options.items():
            print(f"  --set {name}={plain(default)}")
        return
    sheet = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name in available():
        sheet.add_row(name, load(name).summary.rstrip("."))
    console().print(sheet)
    print("\nA .py file that defines pair(dim, **options) stands wherever a name does. Options: pyrovae models NAME.")
