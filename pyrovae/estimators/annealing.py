"""Annealed importance sampling: log p(x) of every point from chains that move from a start to the posterior.

Neal 2001; the settings are those of Wu, Burda, Salakhutdinov & Grosse 2017.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import NonFiniteError
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.parameters import is_per_point
from ..pair.validation import check_points, handles_missing
from ..posterior.batching import MIN_CHUNK_DRAWS, chunk_progress, in_chunks, positive_ints
from ..posterior.joint_density import Joint
from ..posterior.precision import CHECKED_POINTS, in_sufficient_precision
from ..statistics import log_weights as weights_statistics
from ..statistics.estimate import Estimate
from ..statistics.reliability import JudgedResult, shortfall_text, weight_shortfall
from ..statistics.weight_sums import WeightSums
from ..utils.progress import shows_progress
from ..utils.provenance import metadata
from ..utils.random import fork_rng
from .annealing_path import AISTrajectory, Path, num_pilots
from .annealing_schedules import Schedule, Sigmoid
from .annealing_starts import choose_start

# Measured on points whose log p(x) is known, 16 chains each. From the posterior these call 881 of 900 reliable, of which 2 are off
# by more than four standard errors and 0.05 nats. From prior and guide they call 323 of 1,800 reliable, of which 1 is.
MIN_CHAINS = 8.0  # that carry the weight, as the effective sample size counts them
MAX_CHAIN_WEIGHT = 0.2  # of the sum of a point's weights


@dataclass(frozen=True, repr=False)
class AISResult(JudgedResult):
    """What `ais` found, point by point: tensors on the CPU, nats.

    `log_w` (chains, N): every exp(log_w) is an unbiased estimate of p(x). So `log_likelihood`, the log of their mean, is a
    lower bound on log p(x) in expectation, as `bound` says. `reliability` judges the weights and, from the posterior,
    the search for its modes. It is given the modes that the start covers.
    """

    labels: ClassVar[Mapping[str, str]] = {"log_likelihood": "annealing"}
    other_values: ClassVar[tuple[str, ...]] = ("shortfall", "ess", "acceptance", "step_size")

    log_w: Tensor
    acceptance: Tensor  # (N,), the fraction of trajectories that were accepted
    step_size: Tensor  # (N,), the last, in units of the start's spread
    shortfall: (
        Tensor  # (N,), by how much log p̂(x) may be too low, as far as weights and modes show: 0 where it is reliable
    )
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
    def method(self) -> tuple[str, ...]:
        """Of each point: "ais"."""
        return ("ais",) * len(self)

    @property
    def reliability_message(self) -> str:
        """At how many points the chains' weights can be relied on, and what may be missing at the others."""
        start, points = self.metadata["start"], len(self)
        given = f"given the modes that the {start} covers" if start != "posterior" else "given the modes found"
        if bool(self.reliable.all()):
            return f"Reliable at every point, {given}."
        return (
            f"Reliable at {int(self.reliable.sum())} of {points} points, {given}. At the others log p̂(x) is a lower bound: a few "
            f"chains carry the weight, or modes are missing. They {shortfall_text(self.shortfall)}; take more temperatures or chains."
        )

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
    num_temperatures: int | None = None,
    seed: int = 0,
    *,
    start: str | None = None,
    schedule: Schedule | None = None,
    num_leapfrog_steps: int | None = None,
    on_progress: Callable[[float], None] | None = None,
    progress: bool = True,
) -> AISResult:
    """Estimate log p(x_n) by annealed importance sampling, for every row of x.

    Chains begin at draws of a start q₀ and pass the distributions f_β = q₀(z)^(1−β) p(x, z)^β, with β from 0 to 1.
    log w = Σ_t (β_t − β_{t−1}) log p(x, z_{t−1}) / q₀(z_{t−1}), and E w = p(x). A transition is a Hamiltonian
    trajectory in unconstrained space, accepted or rejected. Its momentum has the scale of the start's spread in each
    direction.

    **Start.** "posterior" is the mixture fitted about the modes of p(z|x). It is already near the end of the path, so
    few temperatures suffice. "guide" and "prior" need more. The default is the posterior, if its modes can be
    searched: up to 256 continuous latents, none of them an angle. Otherwise it is the guide, or else the prior.
    `metadata["start"]` names the start.

    **Step sizes.** Wu et al. adapt the step size of each chain to its own acceptance. A transition that depends on
    the past of its chain leaves no f_β invariant, so E w = p(x) no longer holds exactly. Here, one pilot chain for
    every four chains adapts the step in their place. It multiplies the step by 1.02 or 0.98, towards an acceptance of
    0.65, within [1e-4, 0.5]. Pilots know nothing of the other chains and are thrown away. So every transition leaves
    its f_β invariant, and the bound holds.

    Modules are put in evaluation mode and back. The random state of torch is left as it was. Where single precision
    does not resolve the density, a warning says so and all is computed in double precision.

    Args:
        model: The model, a function of x.
        guide: The guide. It says which latents are drawn and which are summed out, for every start.
        x: The points (N, ...), on the device and in the type of the pair's parameters.
        num_chains: C, how many chains each point gets, at least 2.
        num_temperatures: How many values β takes. Default: 100 from the posterior, 1,000 from the guide or the prior.
        seed: The same seed gives the same numbers.
        start: "posterior", "guide" or "prior".
        schedule: The values of β, one of `estimators.annealing_schedules`.
        num_leapfrog_steps: Steps of each Hamiltonian trajectory. Default: 4 from the posterior, 10 from the guide or
            the prior.
        on_progress: Called with the number of points done since its last call, a fraction.
        progress: Whether to show a bar in a terminal or a notebook, if `on_progress` is not given.

    Returns:
        An `AISResult`, nats.

    Raises:
        InvalidInputError: `num_chains` is below 2, a discrete latent is not summed out, or the pair has no such
            start.
        NonFiniteError: No chain of some point has a finite weight.

    References:
        Neal (2001). Annealed importance sampling. Equation 11.
        Wu, Burda, Salakhutdinov & Grosse (2017). On the quantitative analysis of decoder-based generative models.
            Algorithm 1.

    Example:
        >>> import pyrovae, torch
        >>> model, guide = pyrovae.load("ppca")(3, latent=1)
        >>> result = pyrovae.ais(model, guide, torch.randn(2, 3), num_chains=4, num_temperatures=10)
        >>> result.log_likelihood.shape
        torch.Size([2])
    """
    check_settings(num_chains, num_temperatures, num_leapfrog_steps)
    check_points(x, handles_missing(model))
    schedule = schedule or Sigmoid()
    started = time.perf_counter()
    model, guide, x = in_sufficient_precision(model, guide, x, len(x) if is_per_point(guide, x) else CHECKED_POINTS)
    with evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device, seed):
        begin = choose_start(model, guide, x, start, seed)
        num_temperatures = num_temperatures or begin.num_temperatures
        leapfrogs, betas = num_leapfrog_steps or begin.num_leapfrog_steps, schedule(num_temperatures)

        def work(joint: Joint, first: int) -> tuple[AISTrajectory, Tensor]:
            own = begin.build(joint)
            walk = Path(own, num_chains).forward(betas, leapfrogs, chunk_progress(on_progress, len(joint.x)))
            check_weights(walk.log_w, first)
            return walk, own.shortfall

        parts = in_chunks(model, guide, x, max(MIN_CHUNK_DRAWS, num_chains + num_pilots(num_chains)), work)
    walks = [walk for walk, _ in parts]
    weights = torch.cat([walk.log_w for walk in walks], dim=1).cpu()
    settings = {"num_chains": num_chains, "num_temperatures": num_temperatures, "num_leapfrog_steps": leapfrogs}
    return AISResult(
        weights,
        torch.cat([walk.acceptance for walk in walks]).cpu(),
        torch.cat([walk.steps[-1] for walk in walks]).cpu(),
        weight_shortfall(WeightSums.of(weights), min_ess=MIN_CHAINS, max_weight=MAX_CHAIN_WEIGHT)
        + torch.cat([missing for _, missing in parts]).cpu(),
        time.perf_counter() - started,
        metadata(x, **settings, start=begin.name, schedule=str(schedule), seed=seed, points=len(x)),
    )


def check_settings(num_chains: int, num_temperatures: int | None, num_leapfrog_steps: int | None) -> None:
    """Raise `InvalidInputError` for anything but whole numbers. None stands for what suffices from the start."""
    given = {"num_temperatures": num_temperatures, "num_leapfrog_steps": num_leapfrog_steps}
    positive_ints(num_chains=num_chains, **{name: value for name, value in given.items() if value is not None})


def check_weights(log_w: Tensor, start: int) -> None:
    """Raise `NonFiniteError` where no chain of a point has a finite weight. Points count from `start`."""
    not_finite = ~torch.isfinite(log_w.logsumexp(0))
    if bool(not_finite.any()):
        point = int(not_finite.nonzero()[0])
        raise NonFiniteError(
            f"No chain of data point {start + point} has a finite weight (log w at most {log_w[:, point].max().item()}): its density "
            "is zero or no number where the chains begin; begin elsewhere (posterior, guide or prior), or look at that point."
        )
