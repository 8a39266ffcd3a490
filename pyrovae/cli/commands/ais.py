"""What `pyrovae evaluate --ais` adds: annealed importance sampling beside the importance weights, and how wide it can be off."""

from ...data.datasets import Data
from ...errors import Refusal, suggest
from ...estimators.annealing import ais
from ...estimators.bidirectional import bdmc
from ...evaluation.annealing_comparison import Annealing
from ...evaluation.result import Evidence
from ...posterior.joint_density import Joint
from ...runs.run import Run
from ..common import rows_at_random
from ..output import progress_bars


def refuse_annealing(run: Run, data: Data, start: str) -> None:
    """Before the points are scored, not after: a start that there is not, latents that cannot be moved."""
    if start not in ("prior", "guide"):
        raise Refusal(f"Chains cannot begin at '{start}'{suggest(start, ('prior', 'guide'))}: give prior or guide.")
    joint = Joint(run.model, run.guide, data.test[:2])
    if start == "guide":
        joint.refuse_helpers()


def annealed_section(
    run: Run,
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
