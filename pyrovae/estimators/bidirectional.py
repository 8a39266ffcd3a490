"""log p(x) from both sides, on points that the model itself has drawn.

A bound from above needs one exact draw of the posterior. For x simulated together with its z there is one: that z. On real data
there is none, and the same chains would bound nothing; so nothing here takes data. `two_sided` does, by coupled chains.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pyro import poutine
from torch import Tensor

from ..errors import InvalidInputError, check_int
from ..pair.execution import ModelOrGuide, evaluation_mode, isolated_parameters, trace
from ..pair.importance_weights import log_weights_unchecked
from ..pair.sites import density_sites
from ..pair.structure import inspect_pair
from ..posterior.batching import MIN_CHUNK_DRAWS, chunk_progress, in_chunks, positive_ints
from ..posterior.joint_density import Joint
from ..statistics import log_weights as weights_statistics
from ..utils.provenance import metadata
from ..utils.random import fork_rng
from .annealing import check_settings, check_weights
from .annealing_path import AISTrajectory, Path, num_pilots
from .annealing_schedules import Schedule, Sigmoid
from .annealing_starts import choose_start
from .bracket import BracketResult
from .exact import exact_log_likelihood


@dataclass(frozen=True, repr=False)
class BDMCResult(BracketResult):
    """A lower and an upper bound on log p(x), both in expectation, for every simulated point: tensors (N,) on the CPU, nats.

    The errors of a point are those over its chains or draws. They do not include what another exact z would change.
    The errors of the means do: each point has one z, so the spread of the points, `data_se`, is what a mean's error
    is.
    """

    labels: ClassVar[Mapping[str, str]] = {
        "lower": "simulated points, forward chains",
        "upper": "simulated points, backward chains",
        "width": "width of the bracket",
    }
    other_values: ClassVar[tuple[str, ...]] = ("exact", "shortfall")

    exact: Tensor | None  # the model's own log_prob, where it has one
    x: Tensor  # the points, (N, ...)
    method: str  # "BDMC" or "reverse IWAE"
    seconds: float
    metadata: dict[str, Any]

    def __repr__(self) -> str:
        return (
            f"BDMCResult({len(self)} simulated points, {self.method}: {self.mean_lower.value:.3f} ≤ log p(x) ≤ "
            f"{self.mean_upper.value:.3f}, width {self.mean_width.value:.3f} ± {self.mean_width.data_se:.3f})"
        )

    @property
    def mean_width_se(self) -> float:
        return self.mean_width.data_se

    @property
    def reliability_message(self) -> str:
        """How far the lower bound can be off on points that the model draws."""
        width = self.mean_width
        verdict = "Reliable" if self.reliability == "reliable" else "A lower bound"
        return f"{verdict} on simulated points: it is too low by at most {max(width.value, 0.0):.3f} ± {width.data_se:.3f} nats."

    def summary(self) -> dict[str, Any]:
        """The method, and what can be relied on."""
        return {"method": self.method, **super().summary()}


def bdmc(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    like: Tensor,
    points: int = 100,
    num_chains: int = 16,
    num_temperatures: int | None = None,
    seed: int = 0,
    *,
    start: str | None = None,
    schedule: Schedule | None = None,
    num_leapfrog_steps: int | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> BDMCResult:
    """Bracket log p(x) by bidirectional Monte Carlo, on points that the model simulates.

    Forward chains, as in `ais`, give a lower bound. Backward chains start at the exact z and give an upper bound: E
    [−log (1/C) Σ_c 1/w_c] ≥ log p(x). The width between them bounds the error of `ais` with these settings, on data
    such as the model draws. For the data of the training, it says as much as the model resembles them. Backward
    chains use the step sizes of the forward chains, which know nothing of z.

    Args:
        model: The model, a function of x.
        guide: The guide, as for `ais`.
        like: Points (N, ...) that give x its shape, type and device.
        points: How many points to simulate.
        num_chains: C, how many chains each point gets in each direction.
        num_temperatures: How many values β takes. Default: as for `ais`.
        seed: The same seed gives the same numbers.
        start: "posterior", "guide" or "prior", as for `ais`.
        schedule: The values of β, as for `ais`.
        num_leapfrog_steps: Steps of each Hamiltonian trajectory. Default: as for `ais`.
        on_progress: Called with the number of points done since its last call, a fraction.

    Returns:
        A `BDMCResult`, nats.

    Raises:
        InvalidInputError: As for `ais`, or x cannot be simulated.

    References:
        Grosse, Ancha & Roy (2016). Measuring the reliability of MCMC inference with bidirectional Monte Carlo.

    Example:
        >>> import pyrovae, torch
        >>> model, guide = pyrovae.load("ppca")(3, latent=1)
        >>> result = pyrovae.bdmc(model, guide, torch.zeros(1, 3), points=2, num_chains=4, num_temperatures=10)
        >>> result.width.shape
        torch.Size([2])
    """
    check_int("points", points, 1)
    check_settings(num_chains, num_temperatures, num_leapfrog_steps)
    schedule = schedule or Sigmoid()
    started = time.perf_counter()
    with evaluation_mode(model, guide), torch.no_grad(), fork_rng(like.device, seed):
        x, drawn = simulate(model, like, points)
        z = Joint(model, guide, x).at(drawn)
        begin = choose_start(model, guide, x, start, seed)
        num_temperatures = num_temperatures or begin.num_temperatures
        leapfrogs, betas = num_leapfrog_steps or begin.num_leapfrog_steps, schedule(num_temperatures)

        def work(joint: Joint, first: int) -> tuple[AISTrajectory, AISTrajectory]:
            path, advance = Path(begin.build(joint), num_chains), chunk_progress(on_progress, len(joint.x) / 2)
            forward = path.forward(betas, leapfrogs, advance)
            own = z[:, first : first + len(joint.x)]
            backward = path.backward(own, betas, forward.steps, leapfrogs, advance)
            check_weights(forward.log_w, first)
            check_weights(backward.log_w, first)
            return forward, backward

        parts = in_chunks(model, guide, x, max(MIN_CHUNK_DRAWS, num_chains + num_pilots(num_chains)), work)
        exact = exact_log_likelihood(model, x)
    forward, backward = (torch.cat([part[side].log_w for part in parts], dim=1).cpu() for side in (0, 1))
    return BDMCResult(
        lower=weights_statistics.log_likelihood(forward),
        lower_se=weights_statistics.log_likelihood_se(forward),
        upper=-weights_statistics.log_likelihood(backward),
        upper_se=weights_statistics.log_likelihood_se(backward),
        width_se=_joint_se(forward, backward),
        exact=exact,
        x=x.cpu(),
        method="BDMC",
        seconds=time.perf_counter() - started,
        metadata=metadata(
            like,
            points=points,
            num_chains=num_chains,
            num_temperatures=num_temperatures,
            num_leapfrog_steps=leapfrogs,
            start=begin.name,
            schedule=str(schedule),
            seed=seed,
        ),
    )


def reverse_iwae(
    model: ModelOrGuide, guide: ModelOrGuide, like: Tensor, points: int = 100, num_samples: int = 1000, seed: int = 0
) -> BDMCResult:
    """Bracket log p(x) by importance weights w alone, on points (x, z₀) that the model simulates.

    The lower bound is log p̂ of K draws. The upper bound replaces one draw by the exact z₀: E log (w(z₀) + Σ_{k<K}
    w(z_k)) / K ≥ log p(x). Any pair with weights will do, also with discrete latents. The guide must have a density
    at z₀.

    Args:
        model: The model, a function of x.
        guide: The guide, a function of x.
        like: Points (N, ...) that give x its shape, type and device.
        points: How many points to simulate.
        num_samples: K, draws of the guide for each point, at least 2.
        seed: The same seed gives the same numbers.

    Returns:
        A `BDMCResult`, nats.

    Raises:
        InvalidInputError: `num_samples` is below 2, x cannot be simulated, or the guide has no density.

    Example:
        >>> import pyrovae, torch
        >>> model, guide = pyrovae.load("ppca")(3, latent=1)  # its guide is exact, so the bounds meet
        >>> result = pyrovae.reverse_iwae(model, guide, torch.zeros(1, 3), points=2, num_samples=10)
        >>> bool(result.width.abs().max() < 1e-4)
        True
    """
    check_int("num_samples", num_samples, 2, why=", so that the bounds have errors")
    positive_ints(points=points)
    started = time.perf_counter()
    with evaluation_mode(model, guide), torch.no_grad(), fork_rng(like.device, seed):
        x, drawn = simulate(model, like, points)
        structure = inspect_pair(model, guide, x)
        for site in density_sites(structure.guide_trace):
            if site["infer"].get("is_auxiliary"):
                raise InvalidInputError(
                    f"The guide draws its latents with the help of site '{site['name']}', and has no density at the exact one: "
                    "give the pair a guide that has, or use bdmc from the prior."
                )
        exact_draw = poutine.replay(guide, trace=drawn)
        log_w0 = log_weights_unchecked(model, exact_draw, x, 1, structure.max_plate_nesting).double()
        sizes = [min(256, num_samples - done) for done in range(0, num_samples, 256)]
        log_w = torch.cat(
            [log_weights_unchecked(model, guide, x, size, structure.max_plate_nesting).double() for size in sizes]
        ).cpu()
        exact = exact_log_likelihood(model, x)
    with_exact = torch.cat([log_w0.cpu(), log_w[1:]])
    return BDMCResult(
        lower=weights_statistics.log_likelihood(log_w),
        lower_se=weights_statistics.log_likelihood_se(log_w),
        upper=weights_statistics.log_likelihood(with_exact),
        upper_se=weights_statistics.log_likelihood_se(with_exact),
        width_se=_joint_se(log_w, with_exact),
        exact=exact,
        x=x.cpu(),
        method="reverse IWAE",
        seconds=time.perf_counter() - started,
        metadata=metadata(like, points=points, num_samples=num_samples, seed=seed),
    )


def simulate(model: ModelOrGuide, like: Tensor, points: int) -> tuple[Tensor, poutine.Trace]:
    """x (points, *like.shape[1:]) that the model has drawn, and the run that drew it, whose latents are exact posterior draws."""
    blank = like[:1].expand(points, *like.shape[1:])
    with isolated_parameters(model):
        run = trace("model", poutine.uncondition(model), blank)
    observed = [site for site in density_sites(run) if site["infer"].get("was_observed")]
    if len(observed) != 1 or observed[0]["value"].shape != blank.shape:
        shapes = ", ".join(str(tuple(site["value"].shape[1:])) for site in observed) or "nothing"
        raise InvalidInputError(
            f"The model observes {shapes} where x is {tuple(like.shape[1:])}, so x cannot be simulated: let one site observe x "
            "itself, with obs=x."
        )
    return observed[0]["value"].detach(), run


def _joint_se(below: Tensor, above: Tensor) -> Tensor:
    """The error of the difference of two estimates by their log-weights, as if they had no draws in common."""
    errors = [weights_statistics.log_likelihood_se(log_w) for log_w in (below, above)]
    return (errors[0].square() + errors[1].square()).sqrt()
