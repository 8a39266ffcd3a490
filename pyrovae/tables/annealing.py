"""The table of annealed importance sampling beside importance weights."""

from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from ..evaluation.annealing_comparison import AnnealingComparison
from ..statistics.estimate import mean_over_points
from ..statistics.result import Row
from .comparison import add_rows, bounds_table


def show(result: AnnealingComparison, page: Console) -> None:
    """Print the table, and what it says."""
    sheet = bounds_table(f"annealed importance sampling: {len(result.annealed)} of the points, nats per point")
    weights = mean_over_points(result.weighted, result.weighted_se)
    add_rows(sheet, [Row("importance weights", weights, "lower"), *result.annealed.rows()])
    add_rows(sheet, [Row("annealing − weights, paired", result.difference, "")])
    if result.bracket is not None:
        add_rows(sheet, result.bracket.rows())
    metadata = result.annealed.metadata
    footer = Text(
        f"{metadata['num_chains']} chains of {metadata['num_temperatures']} distributions from the {metadata['start']}, {metadata['schedule']} schedule, "
        f"{metadata['num_leapfrog_steps']} leapfrog steps, acceptance {result.annealed.acceptance.mean():.2f}; "
        f"{result.annealed.ess.mean():.1f} of {metadata['num_chains']} chains carry the weight; {result.annealed.seconds:.0f} s",
        style="dim",
    )
    said = f"{advice(result)} {result.annealed.reliability_message}"
    page.print(Group(sheet, Padding(Text(said), (0, 0, 1, 1)), Padding(footer, (0, 0, 0, 1))))


def advice(result: AnnealingComparison) -> str:
    """Whether annealing changes the estimate, and which option would improve it."""
    value, error, _ = result.difference
    few = float(result.annealed.ess.mean()) < min(4, result.annealed.metadata["num_chains"] / 2)
    doubt = "; few chains carry the weight: more --ais-steps raise it further" if few else ""
    if value > 3 * error:
        return f"Annealing is {value:.3f} nats above the importance weights, which are loose by at least that{doubt}."
    if value < -3 * error:
        return f"Annealing is {-value:.3f} nats below the importance weights: more --ais-steps, or another --ais-start{doubt}."
    return f"Annealing and importance weights agree within three of their errors{doubt}."
