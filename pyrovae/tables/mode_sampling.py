"""The table of importance sampling about the modes, beside the guide's importance weights."""

from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from ..estimators.mode_sampling import ModeSamplingResult
from ..evaluation.result import Evidence
from ..statistics.estimate import mean_difference
from ..statistics.result import Row
from .comparison import add_rows, bounds_table


def show(result: ModeSamplingResult, evidence: Evidence, console: Console) -> None:
    """Print both estimates of log p(x), what the guide's draws are short of, and how reliable it is."""
    sheet = bounds_table("importance sampling about the modes of the posterior, nats per point")
    weights = f"the guide's {evidence.num_samples:,} draws"
    difference = mean_difference(
        result.log_likelihood, result.log_likelihood_se, evidence.log_likelihood, evidence.log_likelihood_se
    )
    add_rows(sheet, [Row(weights, evidence.mean_log_likelihood, "lower"), *result.rows()])
    add_rows(sheet, [Row("about the modes − the guide's, paired", difference, "")])
    draws = result.num_draws.double()
    footer = Text(
        f"{draws.mean():.0f} draws a point, {draws.max():.0f} at most; ESS {result.ess.mean():.0f}; up to "
        f"{int(result.num_modes.max())} modes a point; {result.seconds:.1f} s",
        style="dim",
    )
    message = Padding(Text(result.reliability_message), (0, 0, 1, 1))
    console.print(Group(sheet, message, Padding(footer, (0, 0, 0, 1))))
