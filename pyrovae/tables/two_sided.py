"""The table of the bounds of log p(x) from both sides."""

from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from ..estimators.two_sided import TwoSidedResult
from .comparison import add_rows, bounds_table


def show(result: TwoSidedResult, page: Console) -> None:
    """Print the bounds and their width, what they are given with the certificate, and what was computed."""
    sheet = bounds_table("from both sides, nats per point")
    add_rows(sheet, result.rows())
    settings = result.metadata
    source = "about the modes" if result.proposal == "modes" else "of the guide"
    least, most = int(result.num_draws.min()), int(result.num_draws.max())
    draws = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    footer = Text(
        f"K = {draws} draws {source}, {settings['num_replicates']} replicates; chains met within "
        f"{int(result.num_steps.max())} steps at {int(result.met.sum())} of {len(result)} points; {result.seconds:.0f} s",
        style="dim",
    )
    message = Text(result.message, "" if bool(result.met.all()) else "yellow")
    page.print(Group(sheet, Padding(message, (0, 0, 1, 1)), Padding(footer, (0, 0, 0, 1))))
