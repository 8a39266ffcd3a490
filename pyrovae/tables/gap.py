"""The table of `pyrovae gap`."""

from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from ..evaluation.gap_decomposition import GapResult
from .comparison import add_rows, bounds_table


def show(name: str, result: GapResult, metadata: dict[str, Any], page: Console) -> None:
    """The table: from log p(x) down to the ELBO, and between them the gaps."""
    sheet = bounds_table(f"{name}: {len(result)} held-out points, nats per point")
    *estimates, approximation, amortisation = result.rows()
    add_rows(sheet, estimates)
    sheet.add_section()
    add_rows(sheet, [approximation, amortisation])
    below = Text(
        f"{metadata['data']}; x = {metadata['transform']}; {metadata['num_samples']} draws; seed {metadata['seed']}; {metadata['dtype']} on {metadata['device']}; "
        f"{result.seconds:.0f} s; pyrovae {metadata['pyrovae']}, torch {metadata['torch']}",
        style="dim",
    )
    page.print(
        Group(
            sheet,
            Padding(Text(f"{advice(result)} {result.reliability_message}"), (0, 0, 1, 1)),
            Padding(below, (0, 0, 0, 1)),
        )
    )


def advice(result: GapResult) -> str:
    """What the split says is worth doing."""
    family, network = result.mean_approximation, result.mean_amortisation
    if network.value < -3 * max(network.mc_se, 1e-4):
        return (
            f"The refined q* is below the guide: the guide's family is wider than a {result.family}; refine in a wider one "
            "(--family full or flow)."
        )
    total = family.value + network.value
    if total < 3 * max(family.mc_se, network.mc_se, 1e-3):
        return "There is no gap to speak of: the guide is the posterior, as far as these numbers can tell."
    larger = max(family.value, network.value) / total
    if network.value >= family.value:
        return f"{larger:.0%} of the gap is the network's: a larger or longer-trained encoder, or refinement at evaluation, closes it."
    return f"{larger:.0%} of the gap is the family's: only a wider q closes it (a full covariance, a flow)."
