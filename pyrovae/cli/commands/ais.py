"""What `pyrovae evaluate --ais` adds: annealed importance sampling beside the importance weights, and how wide it can be off."""

from ...data.datasets import Data
from ...errors import InvalidInputError, did_you_mean
from ...estimators.annealing import ais
from ...estimators.bidirectional import bdmc
from ...evaluation.annealing_comparison import AnnealingComparison
from ...evaluation.result import Evidence
from ...posterior.joint_density import Joint
from ...runs.run import Run
from ..common import rows_at_random
from ..output import progress_bars


def check_annealing(run: Run, data: Data, start: str) -> None:
    """Before the points are scored, not after: a start that there is not, latents that cannot be moved."""
    if start not in ("prior", "guide"):
        raise InvalidInputError(
            f"Chains cannot begin at '{start}'{did_you_mean(start, ('prior', 'guide'))}: give prior or guide."
        )
    joint = Joint(run.model, run.guide, data.test[:2])
    if start == "guide":
        joint.check_no_auxiliary()


def annealed_section(
    run: Run,
    data: Data,
    evidence: Evidence,
    *,
    num_chains: int,
    num_temperatures: int,
    start: str,
    points: int,
    bracket: bool,
    seed: int,
) -> AnnealingComparison:
    """AIS on `points` of the held-out points, drawn at random; `evidence` is that of all of them."""
    x = data.test
    index = rows_at_random(x, points, seed)
    with progress_bars() as progress:
        task = progress.add_task(
            f"anneal {run.name}", total=len(index) * (2 if bracket else 1), note=f"{num_temperatures} steps"
        )

        def advance(amount: float) -> None:
            progress.advance(task, amount)

        found = ais(
            run.model,
            run.guide,
            x[index.to(x.device)],
            num_chains,
            num_temperatures,
            seed,
            start=start,
            on_progress=advance,
        )
        sides = None
        if bracket:
            sides = bdmc(
                run.model,
                run.guide,
                x,
                len(index),
                num_chains,
                num_temperatures,
                seed,
                start=start,
                on_progress=advance,
            )
    return AnnealingComparison(found, evidence.log_likelihood[index], evidence.log_likelihood_se[index], index, sides)
