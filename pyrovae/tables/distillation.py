"""The table of `pyrovae distil`."""

from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from ..evaluation.distillation_result import DistillationResult
from .comparison import add_rows, bounds_table


def show(name: str, result: DistillationResult, page: Console) -> None:
    """Print the guide's errors before and after, and what was done."""
    sheet = bounds_table(f"{name}: {len(result)} held-out points, nats per point")
    add_rows(sheet, result.rows())
    settings = result.metadata
    below = Text(
        f"{settings['epochs']} epochs on {settings['num_draws']} posterior draws of each of {settings['train_points']} points; "
        f"K = {settings['num_samples']}; seed {settings['seed']}; {settings['dtype']} on {settings['device']}; {result.seconds:.0f} s",
        style="dim",
    )
    text = f"{advice(result)} {result.reliability_message}"
    page.print(Group(sheet, Padding(Text(text), (0, 0, 1, 1)), Padding(below, (0, 0, 0, 1))))


def advice(result: DistillationResult) -> str:
    """Whether the guide is the better for it, and by which measure."""
    measures = {
        "gap": (result.gap_before - result.gap),
        "bound error": (result.bound_error_before - result.bound_error),
    }
    better = [name for name, gain in measures.items() if float(gain.double().mean()) > 0]
    if len(better) == 2:
        return "The guide is closer to the posterior: both errors are smaller."
    if better:
        [name], [other] = better, [each for each in measures if each not in better]
        found = f"The {name} is smaller and the {other} larger"
    else:
        found = "The guide is no closer to the posterior"
    return f"{found}: train longer (--epochs), or take a wider family of guides."
