"""What `pyrovae evaluate --ais` adds: annealed importance sampling beside the importance weights, and how wide it can be off."""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
import typer
from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from ...data.datasets import Data
from ...errors import Refusal, suggest
from ...estimators.annealing import Annealed, ais
from ...estimators.bidirectional import Bracket, bdmc
from ...evaluation.result import Estimate, Evidence, mean_over_points
from ...posterior.joint_density import Joint
from ...runs import run as runs
from ...tables.comparison import bounds_table, estimate_cells
from ..common import progress_bars, rows_at_random

AisOption = Annotated[bool, typer.Option("--ais", help="Add annealed importance sampling.")]
ChainsOption = Annotated[int, typer.Option(min=2, help="With --ais: chains for each point.")]
StepsOption = Annotated[int, typer.Option(min=1, help="With --ais: distributions that each chain passes.")]
StartOption = Annotated[str, typer.Option("--from", help="With --ais: where chains begin, prior or guide.")]
AisPointsOption = Annotated[int, typer.Option(min=2, help="With --ais: how many of the points, drawn at random.")]
BdmcOption = Annotated[
    bool, typer.Option("--bdmc", help="With --ais: also bracket log p(x) on as many points that the model draws.")
]


@dataclass(frozen=True)
class Annealing:
    """AIS on some of the points, the importance-weighted estimate of the same, and BDMC on simulated ones."""

    annealed: Annealed
    weighted: torch.Tensor
    weighted_se: torch.Tensor
    index: torch.Tensor  # which of the points
    bracket: Bracket | None

    @property
    def difference(self) -> Estimate:
        """AIS − importance weights, paired point by point: both are lower bounds, and more is better."""
        error = (self.annealed.log_likelihood_se.square() + self.weighted_se.square()).sqrt()
        return mean_over_points(self.annealed.log_likelihood - self.weighted, error)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        found: dict[str, Any] = {
            "bound": self.annealed.bound,
            "points": self.index.tolist(),
            "log_likelihood": self.annealed.log_likelihood.tolist(),
            "log_likelihood_se": self.annealed.log_likelihood_se.tolist(),
            "ess": self.annealed.ess.tolist(),
            "acceptance": self.annealed.acceptance.tolist(),
            "means": {
                "log_likelihood": self.annealed.mean_log_likelihood._asdict(),
                "minus_importance_weights": self.difference._asdict(),
            },
            "seconds": self.annealed.seconds,
            "card": self.annealed.card,
        }
        if self.bracket is not None:
            found["bdmc"] = {
                "bounds": self.bracket.bounds,
                "means": {
                    name: getattr(self.bracket, f"mean_{name}")._asdict() for name in ("lower", "upper", "width")
                },
                **{name: getattr(self.bracket, name).tolist() for name in ("lower", "upper", "width")},
                "seconds": self.bracket.seconds,
            }
        return found

    def show(self, page: Console) -> None:
        """Print the table, and what it says."""
        sheet = bounds_table(f"annealed importance sampling: {len(self.annealed)} of the points, nats per point")
        weights = mean_over_points(self.weighted, self.weighted_se)
        rows = [
            ("importance weights", weights, "lower"),
            ("annealing", self.annealed.mean_log_likelihood, self.annealed.bound),
            ("annealing − weights, paired", self.difference, ""),
        ]
        if self.bracket is not None:
            rows += [
                ("simulated points, forward chains", self.bracket.mean_lower, self.bracket.bounds["lower"]),
                ("simulated points, backward chains", self.bracket.mean_upper, self.bracket.bounds["upper"]),
                ("width of the bracket", self.bracket.mean_width, "upper, of the error"),
            ]
        for label, mean, bound in rows:
            sheet.add_row(label, *estimate_cells(mean), bound)
        card = self.annealed.card
        told = Text(
            f"{card['chains']} chains of {card['steps']} distributions from the {card['start']}, {card['schedule']} schedule, "
            f"{card['leapfrog']} leapfrog steps, acceptance {self.annealed.acceptance.mean():.2f}; "
            f"{self.annealed.ess.mean():.1f} of {card['chains']} chains carry the weight; {self.annealed.seconds:.0f} s",
            style="dim",
        )
        page.print(Group(sheet, Padding(Text(self.verdict()), (0, 0, 1, 1)), Padding(told, (0, 0, 0, 1))))

    def verdict(self) -> str:
        """What to make of it, in a sentence."""
        value, error, _ = self.difference
        few = float(self.annealed.ess.mean()) < min(4, self.annealed.card["chains"] / 2)
        doubt = "; few chains carry the weight: more --steps raise it further" if few else ""
        if value > 3 * error:
            return (
                f"Annealing is {value:.3f} nats above the importance weights, which are loose by at least that{doubt}."
            )
        if value < -3 * error:
            return f"Annealing is {-value:.3f} nats below the importance weights: more --steps, or --from guide{doubt}."
        return f"Annealing and importance weights agree within three of their errors{doubt}."


def refuse_annealing(run: runs.Run, data: Data, start: str) -> None:
    """Before the points are scored, not after: a start that there is not, latents that cannot be moved."""
    if start not in ("prior", "guide"):
        raise Refusal(f"Chains cannot begin at '{start}'{suggest(start, ('prior', 'guide'))}: give prior or guide.")
    joint = Joint(run.model, run.guide, data.test[:2])
    if start == "guide":
        joint.refuse_helpers()


def annealed_section(
    run: runs.Run,
    data: Data,
    evidence: Evidence,
    *,
    chains: int,
    steps: int,
    start: str,
    points: int,
    bracket: bool,
    seed: int,
) -> Annealing:
    """AIS on `points` of the held-out points, drawn at random; `evidence` is that of all of them."""
    x, from_guide = data.test, start == "guide"
    index = rows_at_random(x, points, seed)
    with progress_bars() as progress:
        task = progress.add_task(f"anneal {run.name}", total=len(index) * (2 if bracket else 1), note=f"{steps} steps")

        def advance(amount: float) -> None:
            progress.advance(task, amount)

        found = ais(
            run.model, run.guide, x[index.to(x.device)], chains, steps, seed, from_guide=from_guide, progress=advance
        )
        sides = None
        if bracket:
            sides = bdmc(
                run.model, run.guide, x, len(index), chains, steps, seed, from_guide=from_guide, progress=advance
            )
    return Annealing(found, evidence.log_likelihood[index], evidence.log_likelihood_se[index], index, sides)
