"""The table of `pyrovae gap`."""

from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from ..evaluation.gap_decomposition import ESTIMATORS, GapResult
from ..statistics.estimate import Estimate
from .comparison import bounds_table, estimate_cells


def show(name: str, found: GapResult, metadata: dict[str, Any], page: Console) -> None:
    """The table: from log p(x) down to the ELBO, and between them the gaps."""
    sheet = bounds_table(f"{name}: {len(found)} held-out points, nats per point")
    rows: list[tuple[str, Estimate | None, str]] = [
        ("exact log p(x)", found.mean_exact, "exact"),
        ("log p̂(x), the largest of:", found.mean_log_likelihood, ""),
        (f"  {ESTIMATORS[0]}", found.mean_weighted, found.bounds["weighted"]),
        (f"  {ESTIMATORS[1]}", found.mean_refined, found.bounds["refined"]),
        (f"  {ESTIMATORS[2]}", found.mean_annealed, found.bounds.get("annealed", "")),
        ("L[q*], refined per point", found.mean_refined_elbo, found.bounds["refined_elbo"]),
        ("L[q(z|x)], the guide's ELBO", found.mean_elbo, found.bounds["elbo"]),
    ]
    for label, mean, bound in rows:
        if mean is not None:
            sheet.add_row(Text(label), *estimate_cells(mean), bound)  # markup would swallow [q*]
    sheet.add_section()
    sheet.add_row(f"approximation gap ({found.family})", *estimate_cells(found.mean_approximation), "")
    sheet.add_row("amortisation gap (the network)", *estimate_cells(found.mean_amortisation), "")
    below = Text(
        f"{metadata['data']}; x = {metadata['transform']}; {metadata['num_samples']} draws; seed {metadata['seed']}; {metadata['dtype']} on {metadata['device']}; "
        f"{found.seconds:.0f} s; pyrovae {metadata['pyrovae']}, torch {metadata['torch']}",
        style="dim",
    )
    page.print(Group(sheet, Padding(Text(advice(found)), (0, 0, 1, 1)), Padding(below, (0, 0, 0, 1))))


def advice(found: GapResult) -> str:
    """What the split says is worth doing."""
    family, network = found.mean_approximation, found.mean_amortisation
    if network.value < -3 * max(network.mc_se, 1e-4):
        return (
            f"The refined q* is below the guide: the guide's family is wider than a {found.family}; refine in a wider one "
            "(--family full or flow)."
        )
    total = family.value + network.value
    if total < 3 * max(family.mc_se, network.mc_se, 1e-3):
        return "There is no gap to speak of: the guide is the posterior, as far as these numbers can tell."
    larger = max(family.value, network.value) / total
    if network.value >= family.value:
        return f"{larger:.0%} of the gap is the network's: a larger or longer-trained encoder, or refinement at evaluation, closes it."
    return f"{larger:.0%} of the gap is the family's: only a wider q closes it (a full covariance, a flow)."
