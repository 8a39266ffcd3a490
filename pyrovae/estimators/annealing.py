"""Annealed importance sampling: log p(x) of every point from chains that move from a start to the posterior.

Neal 2001; the settings are those of Wu, Burda, Salakhutdinov & Grosse 2017.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InvalidInputError, NonFiniteError, did_you_mean
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.validation import check_points
from ..posterior.batching import chunk_progress, in_chunks, positive_ints
from ..posterior.compiled_density import compile_density
from ..posterior.joint_density import Joint
from ..posterior.mode_mixture import ModeMixture
from ..statistics import log_weights as weights_statistics
from ..statistics.estimate import Estimate
from ..statistics.result import PointwiseResult
from ..statistics.weight_sums import WeightSums
from ..utils.progress import shows_progress
from ..utils.provenance import metadata
from ..utils.random import fork_rng
from .annealing_schedules import Schedule, Sigmoid
from .annealing_starts import AnnealingStart, GuideStart, MixtureStart, PriorStart
from .hmc import State, trajectory
from .step_sizes import FixedStepSizes, StepSizeAdapter


@dataclass(frozen=True, repr=False)
class AISResult(PointwiseResult):
    """What `ais` found, point by point: tensors on the CPU, nats.

    `log_w` (chains, N): every exp(log_w) is an unbiased estimate of p(x), so `log_likelihood`, the log of their mean, is a
    lower bound on log p(x) in expectation, which is what `bound` says.
    """

    labels: ClassVar[Mapping[str, str]] = {"log_likelihood": "annealing"}
    other_values: ClassVar[tuple[str, ...]] = ("ess", "acceptance", "step_size")

    log_w: Tensor
    acceptance: Tensor  # (N,), the fraction of trajectories that were accepted
    step_size: Tensor  # (N,), the last, in units of the start's spread
    seconds: float
    metadata: dict[str, Any]
    bound: str = "lower"

    def __repr__(self) -> str:
        value, mc_se, _ = self.mean_log_likelihood
        num_chains, num_temperatures = self.metadata["num_chains"], self.metadata["num_temperatures"]
        return f"AISResult({len(self)} points, {num_chains} chains of {num_temperatures} temperatures: log p(x) ≥ {value:.3f} ± {mc_se:.3f})"

    @property
    def log_likelihood(self) -> Tensor:
        """log (1/C) Σ_c w_c: (N,)."""
        return weights_statistics.log_likelihood(self.log_w)

    @property
    def log_likelihood_se(self) -> Tensor:
        """Its standard error over chains, by the delta method: (N,). Where `ess` is a handful it is too small."""
        return weights_statistics.log_likelihood_se(self.log_w)

    @property
    def ess(self) -> Tensor:
        """Effective number of chains, between 1 and C: (N,)."""
        return weights_statistics.ess(self.log_w)

    @property
    def mean_log_likelihood(self) -> Estimate:
        return self.mean("log_likelihood")

    @property
    def bounds(self) -> Mapping[str, str]:
        return {"log_likelihood": self.bound}


@shows_progress("anneal", lambda arguments: len(arguments["x"]))
def ais(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    num_chains: int = 16,
    num_temperatures: int = 1000,
    seed: int = 0,
    *,
    start: str = "prior",
    schedule: Schedule | None = None,
    num_leapfrog_steps: int = 10,
    on_progress: Callable[[float], None] | None = None,
    progress: bool = True,
) -> AISResult:
    """Annealed importance sampling of log p(x_n) for every row of x.

    Chains begin at draws of the prior, or of the guide, and pass `num_temperatures` distributions f_β = q(z)^(1−β) p(x, z)^β, β from 0 to
    1, q being the prior or the guide; log w = Σ_t (β_t − β_{t−1}) log p(x, z_{t−1}) / q(z_{t−1}), E w = p(x) (Neal 2001, eq. 11;
    Wu et al. 2017, alg. 1). The transition is a Hamiltonian trajectory of `num_leapfrog_steps` steps in unconstrained space, accepted or
    not, its momentum scaled by the start's spread in each direction.

    **Step sizes.** Wu et al. adapt each chain's step by its own acceptance, and a transition that knows its chain's past leaves no
    f_β invariant: E w = p(x) no longer holds exactly. So the chains that count adapt nothing. Beside them run pilots, one for four
    chains; a pilot's step goes ×1.02 or ×0.98 towards an acceptance of 0.65 within [1e-4, 0.5], and its chains use the pilot's.
    Pilots know nothing of those chains and are thrown away, so every transition leaves its f_β invariant, and the bound holds.

    `guide` says which latents are drawn and which summed out, also where the prior is the start. `on_progress` is called with the
    number of points done since its last call, a fraction; without it a bar shows the progress in a terminal or a notebook, unless
    `progress` is False. x is on the device and in the type of the pair's parameters; modules
    are put in evaluation mode and back, torch's random state is left as it was. The same seed gives the same numbers.

    Raises `InvalidInputError` for num_chains < 2, discrete latents that are not summed out, a guide without a density where it is the start;
    `NonFiniteError` where no chain of a point has a finite weight.
    """
    settings = positive_ints(
        num_chains=num_chains, num_temperatures=num_temperatures, num_leapfrog_steps=num_leapfrog_steps
    )
    check_points(x)
    schedule = schedule or Sigmoid()
    started = time.perf_counter()

    from_guide = starts_at_guide(start)

    def work(joint: Joint, first: int) -> AISTrajectory:
        begin = GuideStart(joint) if from_guide else PriorStart(joint)
        walk = Path(begin, num_chains).forward(
            schedule(num_temperatures), num_leapfrog_steps, chunk_progress(on_progress, len(joint.x))
        )
        check_weights(walk.log_w, first)
        return walk

    with evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device, seed):
        parts = in_chunks(model, guide, x, num_chains + num_pilots(num_chains), work)
    return AISResult(
        torch.cat([part.log_w for part in parts], dim=1).cpu(),
        torch.cat([part.acceptance for part in parts]).cpu(),
        torch.cat([part.steps[-1] for part in parts]).cpu(),
        time.perf_counter() - started,
        metadata(x, **settings, start=start, schedule=str(schedule), seed=seed, points=len(x)),
    )


def anneal_from_mixture(
    joint: Joint,
    mixture: ModeMixture,
    num_chains: int = 16,
    num_temperatures: int = 32,
    num_leapfrog_steps: int = 4,
    *,
    schedule: Schedule | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> "AISTrajectory":
    """Anneal from the mixture fitted to each point's posterior to the posterior itself: E w = p(x) for every chain.

    Few temperatures suffice, since the mixture is near the posterior. Call it without gradients, in evaluation mode. For some
    of the points give `joint.subset(rows)` and `mixture.subset(rows)`.

    Args:
        joint: The densities at N points.
        mixture: The normalised density q₀ of each point, such as `fit_mixture` returns.
        num_chains: How many weights each point gets. A quarter as many chains run beside them and choose the step sizes.
        num_temperatures: How many steps lead from q₀ to the posterior.
        on_progress: Called with the fraction of the work done since its last call.

    Returns:
        Trajectories whose `weights` hold the estimate of log p(x), its standard error and its ESS, (N,) each, in nats.
    """
    path = Path(MixtureStart(joint, mixture), num_chains)
    betas = (schedule or Sigmoid())(num_temperatures)
    return path.forward(betas, num_leapfrog_steps, on_progress or (lambda fraction: None))


@dataclass(frozen=True)
class AISTrajectory:
    """Chains that have gone all the way."""

    log_w: Tensor  # (chains, N), float64
    acceptance: Tensor  # (N,)
    steps: Tensor  # (T − 1, N), the size of each step, averaged over pilots

    @property
    def weights(self) -> WeightSums:
        """What the chains' weights add up to: log p̂(x), its standard error, ESS and largest weight, (N,) each."""
        return WeightSums.of(self.log_w)


class Path:
    """From a start q₀ to p(x, ·), for the points of one chunk."""

    def __init__(self, start: AnnealingStart, num_chains: int):
        self.start, self.num_chains, self.num_pilots = start, num_chains, num_pilots(num_chains)

    def forward(self, betas: Tensor, num_leapfrog_steps: int, on_progress: Callable[[float], None]) -> AISTrajectory:
        """From q₀ to p: weights whose mean is p(x)."""
        v = self.start.draw(self.num_pilots + self.num_chains)
        return self._walk(v, betas, StepSizeAdapter(self.num_pilots, v), num_leapfrog_steps, on_progress)

    def backward(
        self, z: Tensor, betas: Tensor, steps: Tensor, num_leapfrog_steps: int, on_progress: Callable[[float], None]
    ) -> AISTrajectory:
        """From an exact posterior draw z (1, N, d) to q₀: weights whose mean is 1/p(x). The step sizes are those of a forward
        walk, (T − 1, N), which knew nothing of z."""
        v = self.start.coordinates(z).expand(self.num_chains, *z.shape[1:]).contiguous()
        return self._walk(v, betas.flip(0), FixedStepSizes(steps.flip(0)), num_leapfrog_steps, on_progress)

    def _walk(
        self,
        v: Tensor,
        betas: Tensor,
        sizes: StepSizeAdapter | FixedStepSizes,
        num_leapfrog_steps: int,
        on_progress: Callable[[float], None],
    ) -> AISTrajectory:
        value_and_grad = compile_density(self.start.log_densities, v)
        state = State(v, *value_and_grad(v))
        log_w = torch.zeros(v.shape[:2], dtype=torch.float64, device=v.device)
        accepted, step_sizes = torch.zeros_like(log_w), []
        for before, beta in zip(betas[:-1].tolist(), betas[1:].tolist(), strict=True):
            log_q, log_p = state.densities
            log_w += (beta - before) * (log_p.double() - log_q.double())
            if beta not in (0.0, 1.0):  # at the end nothing is weighted any more
                step_sizes.append(sizes.mean())
                step = sizes(v) * self.start.spread
                state, probability = trajectory(state, beta, step, num_leapfrog_steps, value_and_grad)
                accepted += probability
                sizes.learn(probability)
            on_progress(1 / (len(betas) - 1))
        counted = slice(len(v) - self.num_chains, None)
        return AISTrajectory(
            log_w[counted],
            accepted[counted].mean(0) / max(1, len(betas) - 2),
            torch.stack(step_sizes or [sizes.mean()]),
        )


def starts_at_guide(start: str) -> bool:
    """Whether chains begin at draws of the guide. Raises `InvalidInputError` for anything but "prior" and "guide"."""
    if start not in ("prior", "guide"):
        raise InvalidInputError(
            f"Chains cannot begin at '{start}'{did_you_mean(start, ('prior', 'guide'))}: give prior or guide."
        )
    return start == "guide"


def num_pilots(num_chains: int) -> int:
    """How many chains learn step sizes for the others."""
    return max(1, num_chains // 4)


def check_weights(log_w: Tensor, start: int) -> None:
    not_finite = ~torch.isfinite(log_w.logsumexp(0))
    if bool(not_finite.any()):
        point = int(not_finite.nonzero()[0])
        raise NonFiniteError(
            f"No chain of data point {start + point} has a finite weight (log w at most {log_w[:, point].max().item()}): its density "
            "is zero or no number where the chains begin; begin at the other of prior and guide, or look at that point."
        )
