"""Monte Carlo with draws of the prior: the simplest estimate of log p(x), for comparison with importance sampling."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ..errors import InvalidInputError, check_int
from ..pair.execution import ModelOrGuide, evaluation_mode, isolated_parameters, trace
from ..pair.importance_weights import check_finite, observed_density
from ..pair.sites import SAMPLES, density_sites, point_dim, points_axis
from ..pair.structure import inspect_pair
from ..pair.validation import check_points, handles_missing
from ..statistics.estimate import Estimate
from ..statistics.pareto import is_high_pareto_k
from ..statistics.result import PointwiseResult
from ..statistics.streaming import StreamingStatistics
from ..utils.provenance import metadata
from ..utils.random import fork_rng
from .batch_layout import rows_at_once
from .batched_scoring import ScoringOptions, score
from .partial_results import PartialResults


@dataclass(frozen=True, repr=False)
class PriorSamplingResult(PointwiseResult):
    """log p̂(x_n) = log (1/K) Σ_s p(x_n|z_s), z_s ~ p(z): tensors (N,) on the CPU, nats. A lower bound in expectation.

    With `shared`, all points were held against the same draws, and their errors are not independent. Then the error of
    `mean_log_likelihood` is the mean of their errors, which it cannot exceed.
    """

    labels: ClassVar[Mapping[str, str]] = {"log_likelihood": "draws of the prior"}
    other_values: ClassVar[tuple[str, ...]] = ("ess", "pareto_k")

    log_likelihood: Tensor
    log_likelihood_se: Tensor
    ess: Tensor
    pareto_k: Tensor
    num_samples: int
    shared: bool
    seconds: float
    metadata: Mapping[str, Any]

    def __repr__(self) -> str:
        value, mc_se, _ = self.mean_log_likelihood
        return (
            f"PriorSamplingResult({len(self)} points, {self.num_samples} samples: log p̂(x) {value:.3f} ± {mc_se:.3f})"
        )

    def mean(self, name: str) -> Estimate:
        estimate = super().mean(name)
        return estimate._replace(mc_se=float(self.log_likelihood_se.mean())) if self.shared else estimate

    @property
    def mean_log_likelihood(self) -> Estimate:
        return self.mean("log_likelihood")

    @property
    def bounds(self) -> Mapping[str, str]:
        return {"log_likelihood": "lower"}

    @property
    def high_pareto_k_fraction(self) -> float:
        """The fraction of points whose Pareto k̂ is above its threshold, 0 … 1."""
        return float(is_high_pareto_k(self.pareto_k, self.num_samples).double().mean())

    def summary(self) -> dict[str, Any]:
        """How many samples, whether all points share them, and how far they can be relied on."""
        return {
            "num_samples": self.num_samples,
            "shared": self.shared,
            "ess": float(self.ess.mean()),
            "high_pareto_k_fraction": self.high_pareto_k_fraction,
        }


def prior_sampling_log_likelihood(
    model: ModelOrGuide,
    x: Tensor,
    num_samples: int = 5000,
    seed: int = 0,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> PriorSamplingResult:
    """log (1/K) Σ_s p(x_n|z_s) for every row of x (N, ...), z_1 … z_K drawn from the model's prior, p(z).

    If all points have the same prior, they share each draw and the decoder's pass over it. Otherwise every point gets
    draws of its own. Latents that the model marks for enumeration are drawn too. `on_progress` is called with the
    number of points done since its last call. Memory does not grow with `num_samples`; torch's random state is left
    as it was.

    The weights p(x|z) are those of a guide that does not look at x: their variance grows exponentially with KL(p(z|x) ‖ p(z)).

    Raises what `log_weights` raises.
    """
    check_int("num_samples", num_samples, 1)
    check_points(x, handles_missing(model))
    started = time.perf_counter()
    prior = _prior(model)
    with evaluation_mode(model), torch.no_grad(), fork_rng(x.device, seed):
        structure = inspect_pair(model, prior, x[: rows_at_once(x)])
        with isolated_parameters(model):
            shared = _is_shared(model, x[: rows_at_once(x)], structure.max_plate_nesting)
            values = _shared(model, x, num_samples, structure.max_plate_nesting) if shared else None
        if values is None:
            every = score(
                model,
                prior,
                x,
                num_samples,
                seed,
                structure,
                False,
                ScoringOptions(),
                PartialResults(None, tuple),
                on_progress,
            )
            values = {name: every[name] for name in ("log_likelihood", "log_likelihood_se", "ess", "pareto_k")}
        elif on_progress is not None:
            on_progress(len(x))
    return PriorSamplingResult(
        **values,
        num_samples=num_samples,
        shared=shared,
        seconds=time.perf_counter() - started,
        metadata=metadata(x, num_samples=num_samples, seed=seed, points=len(x)),
    )


def _prior(model: ModelOrGuide) -> ModelOrGuide:
    """The model as a guide: its latents alone."""
    return poutine.block(model, hide_fn=lambda msg: msg["type"] == "sample" and msg["is_observed"])


class _OneForAll(Messenger):
    """Every latent is drawn for the first point, and is that of all."""

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and not site_is_subsample(msg):
            msg["value"] = _of_first(msg)


def _of_first(site: dict[str, Any]) -> Tensor:
    return site["value"].narrow(points_axis(site), 0, 1)


def _run(model: ModelOrGuide, x: Tensor, draws: int, max_plate_nesting: int) -> poutine.Trace:
    with pyro.plate(SAMPLES, draws, dim=-1 - max_plate_nesting):
        return trace("model", _OneForAll()(model), x)


def _is_shared(model: ModelOrGuide, x: Tensor, max_plate_nesting: int) -> bool:
    """Whether the latents of the first point have the same prior density at all others, and the model takes them there."""
    try:
        run = _run(model, x, 2, max_plate_nesting)
    except (InvalidInputError, RuntimeError):
        return False
    return all(_is_one(site) for site in density_sites(run) if not site["is_observed"])


def _is_one(site: dict[str, Any]) -> bool:
    density = site["fn"].log_prob(_of_first(site))
    return torch.allclose(density, density.narrow(point_dim(site), 0, 1), rtol=1e-6, atol=1e-6)


def _shared(model: ModelOrGuide, x: Tensor, num_samples: int, max_plate_nesting: int) -> dict[str, Tensor]:
    running = StreamingStatistics(num_samples, len(x), x.device)
    most = max(1, rows_at_once(x) // len(x))
    for start in range(0, num_samples, most):
        draws = min(most, num_samples - start)
        run = _run(model, x, draws, max_plate_nesting)
        log_p = observed_density(run, len(x), draws, max_plate_nesting)
        check_finite(poutine.Trace(), run, torch.zeros(()), log_p)
        running.add(log_p)
    values = running.statistics()
    return {name: values[name].cpu() for name in ("log_likelihood", "log_likelihood_se", "ess", "pareto_k")}
