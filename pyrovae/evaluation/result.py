"""Evidence: what `evaluate` returns."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..statistics.bound_curve import BoundCurve
from ..statistics.estimate import Estimate, mean_over_points
from ..statistics.pareto import is_high_pareto_k, pareto_k_threshold
from ..statistics.result import PointwiseResult
from .reliability import reliability_message


@dataclass(frozen=True, repr=False)
class Evidence(PointwiseResult):
    """What `evaluate` found, point by point: tensors of shape (N,) on the CPU, nats; `mean_*` are over points.

    `elbo ≤ log p(x)` and `log_likelihood ≤ log p(x)`, both in expectation; `log_likelihood_jackknife` is no bound. `pareto_k`
    says of each point, and `reliability_message` of all, whether log p̂ may be believed. `exact_log_likelihood` is the model's own
    `log_prob`, where it has one. `log_jacobian` is log|dx/dpixel|, where the data have a pixel scale. Errors are NaN for one
    sample.
    """

    labels: ClassVar[Mapping[str, str]] = {
        "exact_log_likelihood": "exact log p(x)",
        "log_likelihood": "log p̂(x)",
        "log_likelihood_jackknife": "log p̂(x), jackknife",
        "elbo": "ELBO",
        "gap": "gap",
    }
    other_values: ClassVar[tuple[str, ...]] = ("ess", "pareto_k", "log_jacobian")
    # The jackknife differs from log p̂ by a correction that is small wherever either is to be believed.
    errors: ClassVar[Mapping[str, str]] = {"log_likelihood_jackknife": "log_likelihood_se"}

    elbo: Tensor
    elbo_se: Tensor
    log_likelihood: Tensor
    log_likelihood_se: Tensor
    log_likelihood_jackknife: Tensor
    gap_se: Tensor
    ess: Tensor
    pareto_k: Tensor
    bound_curve: BoundCurve
    exact_log_likelihood: Tensor | None
    log_jacobian: Tensor | None
    num_samples: int
    dim: int  # numbers that the model observes of one x
    latent: str
    parameters: int
    base_measure: str  # "counting": probabilities; "Lebesgue": densities; "mixed"
    data_hash: str  # of x: results on the same points can be compared
    seconds: float
    deterministic_guide: bool = False  # weights do not vary: gap, ESS and k̂ are NaN
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        value, mc_se, data_se = self.mean_log_likelihood
        if self.deterministic_guide:
            return f"Evidence({len(self)} points, a guide that draws nothing: ELBO {value:.3f} ± {data_se:.3f})"
        return (
            f"Evidence({len(self)} points, {self.num_samples} samples: log p̂(x) {value:.3f} ± {mc_se:.3f} ± {data_se:.3f}, "
            f"ELBO {self.mean_elbo.value:.3f}, gap {self.mean_gap.value:.3f}, ESS {self.ess.mean():.0f}, "
            f"k̂ above {self.pareto_k_threshold:.2f} on {self.high_pareto_k_fraction:.0%})"
        )

    @property
    def gap(self) -> Tensor:
        """log p̂ − L: an estimate of KL(q(z|x) ‖ p(z|x)), low by as much as log p̂ is low; NaN where the guide is `deterministic_guide`, which
        is at a distance −log p(z|x) that no draw shows. (N,), nats."""
        if self.deterministic_guide:
            return torch.full_like(self.elbo, math.nan)
        return self.log_likelihood - self.elbo

    @property
    def mean_elbo(self) -> Estimate:
        return self.mean("elbo")

    @property
    def mean_log_likelihood(self) -> Estimate:
        return self.mean("log_likelihood")

    @property
    def mean_log_likelihood_jackknife(self) -> Estimate:
        return self.mean("log_likelihood_jackknife")

    @property
    def mean_gap(self) -> Estimate:
        return self.mean("gap")

    @property
    def mean_exact_log_likelihood(self) -> Estimate | None:
        return None if self.exact_log_likelihood is None else self.mean("exact_log_likelihood")

    @property
    def mean_bound_curve(self) -> dict[int, Estimate]:
        """L_K averaged over points, for each K."""
        num_samples, value, se = self.bound_curve
        return {K: mean_over_points(v, s) for K, v, s in zip(num_samples, value, se, strict=True)}

    @property
    def pareto_k_threshold(self) -> float:
        """min(1 − 1/log₁₀ K, 0.7) for these samples."""
        return pareto_k_threshold(self.num_samples)

    @property
    def high_pareto_k(self) -> Tensor:
        """The points whose k̂ is not below its threshold, or cannot be told: (N,), true or false."""
        return is_high_pareto_k(self.pareto_k, self.num_samples)

    @property
    def high_pareto_k_fraction(self) -> float:
        """The fraction of points whose k̂ is above its threshold, 0 … 1."""
        return float(self.high_pareto_k.double().mean())

    @property
    def reliability_message(self) -> str:
        """A sentence or two: whether log p̂ is to be trusted and, where it is not, why, and what to do."""
        bias = self.mean_log_likelihood_jackknife.value - self.mean_log_likelihood.value
        return reliability_message(self.num_samples, self.pareto_k, self.ess, bias, self.deterministic_guide)

    @property
    def bits_per_dim(self) -> float | None:
        """−(log p̂(x) + log|dx/dpixel|) / (D log 2), averaged over points: bits for each pixel at the pixels' own scale, so
        that transforms of one data set can stand side by side. None where the data have no pixel scale."""
        if self.log_jacobian is None:
            return None
        return float(-(self.log_likelihood + self.log_jacobian).double().mean() / (self.dim * math.log(2)))

    @property
    def bounds(self) -> Mapping[str, str]:
        return {"elbo": "lower", "log_likelihood": "lower"}

    def summary(self) -> dict[str, Any]:
        """What the numbers are of, and whether they can be relied on."""
        return {
            "num_samples": self.num_samples,
            "latent": self.latent,
            "dim": self.dim,
            "data_hash": self.data_hash,
            "pareto_k_threshold": self.pareto_k_threshold,
            "reliability_message": self.reliability_message,
        }

    def to_dict(self) -> dict[str, Any]:
        """As `PointwiseResult.to_dict`, and the bound curve averaged over points."""
        return {**super().to_dict(), "bound_curve": self.bound_curve_rows()}

    def bound_curve_rows(self) -> list[dict[str, Any]]:
        """L_K averaged over points, an object with `num_samples` and the estimate for each K."""
        return [{"num_samples": K, **bound.to_dict()} for K, bound in self.mean_bound_curve.items()]

    def datasets(self) -> dict[str, Any]:
        """As `PointwiseResult.datasets`, with L_K as `bound` over `draws` too."""
        (stats,) = super().datasets().values()
        stats = stats.assign_coords(draws=list(self.bound_curve.num_samples))
        stats["bound"] = (("draws", "point"), self.bound_curve.value.numpy())
        stats["bound_se"] = (("draws", "point"), self.bound_curve.se.numpy())
        return {"sample_stats": stats}
