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
    card = found.annealed.card
    told = Text(
        f"{card['chains']} chains of {card['steps']} distributions from the {card['start']}, {card['schedule']} schedule, "
        f"{card['leapfrog']} leapfrog steps, acceptance {found.annealed.acceptance.mean():.2f}; "
        f"{found.annealed.ess.mean():.1f} of {card['chains']} chains carry the weight; {found.annealed.seconds:.0f} s",
        style="dim",
    )
    page.print(Group(sheet, Padding(Text(verdict(found)), (0, 0, 1, 1)), Padding(told, (0, 0, 0, 1))))


def verdict(found: AnnealingComparison) -> str:
    """What to make of it, in a sentence."""
    value, error, _ = found.difference
    few = float(found.annealed.ess.mean()) < min(4, found.annealed.card["chains"] / 2)
    doubt = "; few chains carry the weight: more --steps raise it further" if few else ""
    if value > 3 * error:
        return f"Annealing is {value:.3f} nats above the importance weights, which are loose by at least that{doubt}."
    if value < -3 * error:
        return f"Annealing is {-value:.3f} nats below the importance weights: more --steps, or --from guide{doubt}."
    return f"Annealing and importance weights agree within three of their errors{doubt}."
