"""The table of annealed importance sampling beside importance weights."""

from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from ..evaluation.annealing_comparison import AnnealingComparison
from ..statistics.estimate import mean_over_points
from .comparison import bounds_table, estimate_cells


def show(found: AnnealingComparison, page: Console) -> None:
    """Print the table, and what it says."""
    sheet = bounds_table(f"annealed importance sampling: {len(found.annealed)} of the points, nats per point")
    weights = mean_over_points(found.weighted, found.weighted_se)
    rows = [
        ("importance weights", weights, "lower"),
        ("annealing", found.annealed.mean_log_likelihood, found.annealed.bound),
        ("annealing − weights, paired", found.difference, ""),
    ]
    if found.bracket is not None:
        rows += [
            ("simulated points, forward chains", found.bracket.mean_lower, found.bracket.bounds["lower"]),
            ("simulated points, backward chains", found.bracket.mean_upper, found.bracket.bounds["upper"]),
            ("width of the bracket", found.bracket.mean_width, "upper, of the error"),
        ]
    for label, mean, bound in rows:
        sheet.add_row(label, *estimate_cells(mean), bound)
    metadata = found.annealed.metadata
    told = Text(
        f"{metadata['num_chains']} chains of {metadata['num_temperatures']} distributions from the {metadata['start']}, {metadata['schedule']} schedule, "
        f"{metadata['num_leapfrog_steps']} leapfrog steps, acceptance {found.annealed.acceptance.mean():.2f}; "
        f"{found.annealed.ess.mean():.1f} of {metadata['num_chains']} chains carry the weight; {found.annealed.seconds:.0f} s",
        style="dim",
    )
    page.print(Group(sheet, Padding(Text(reliability_message(found)), (0, 0, 1, 1)), Padding(told, (0, 0, 0, 1))))


def reliability_message(found: AnnealingComparison) -> str:
    """What to make of it, in a sentence."""
    value, error, _ = found.difference
    few = float(found.annealed.ess.mean()) < min(4, found.annealed.metadata["num_chains"] / 2)
    doubt = "; few chains carry the weight: more --ais-steps raise it further" if few else ""
    if value > 3 * error:
        return f"Annealing is {value:.3f} nats above the importance weights, which are loose by at least that{doubt}."
    if value < -3 * error:
        return f"Annealing is {-value:.3f} nats below the importance weights: more --ais-steps, or --ais-start guide{doubt}."
    return f"Annealing and importance weights agree within three of their errors{doubt}."
