"""What log-weights say about log p(x): tensor functions of log w (samples, N), in nats per data point. No Pyro here."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..statistics.bound_curve import BoundCurve
from ..statistics.estimate import Estimate, mean_over_points
from ..statistics.log_weights import (
    STATISTICS,
)
from ..statistics.pareto import pareto_k_threshold
from .reliability import is_high, reliability_message


@dataclass(frozen=True, repr=False)
class Evidence:
    """What `evaluate` found, point by point: tensors of shape (N,) on the CPU, nats; `mean_*` are over points.

    `elbo ≤ log p(x)` and `log_likelihood ≤ log p(x)`, both in expectation; `log_likelihood_jackknife` is no bound. `pareto_k`
    says of each point, and `reliability_message` of all, whether log p̂ may be believed. `exact_log_likelihood` is the model's own
    `log_prob`, where it has one. `log_jacobian` is log|dx/dpixel|, where the data have a pixel scale. Errors are NaN for one
    sample.
    """

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
    data_hash: str  # fingerprint of x: what may be compared with what
    seconds: float
    deterministic_guide: bool = (
        False  # the guide knows one z for each x: weights do not vary, and gap, ESS and k̂ are NaN
    )
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.elbo)

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
        return mean_over_points(self.elbo, self.elbo_se)

    @property
    def mean_log_likelihood(self) -> Estimate:
        return mean_over_points(self.log_likelihood, self.log_likelihood_se)

    @property
    def mean_log_likelihood_jackknife(self) -> Estimate:
        """With the error of log p̂, from which it differs by a correction that is small wherever either is to be believed."""
        return mean_over_points(self.log_likelihood_jackknife, self.log_likelihood_se)

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
        return is_high(self.pareto_k, self.num_samples)

    @property
    def high_pareto_k_fraction(self) -> float:
        """The share of points whose k̂ is above its threshold, 0 … 1."""
        return float(self.high_pareto_k.double().mean())

    @property
    def reliability_message(self) -> str:
        """A sentence or two: whether log p̂ is to be trusted and, where it is not, why, and what to do."""
        bias = self.mean_log_likelihood_jackknife.value - self.mean_log_likelihood.value
        return reliability_message(self.num_samples, self.pareto_k, self.ess, bias, self.deterministic_guide)

    @property
    def mean_gap(self) -> Estimate:
        return mean_over_points(self.gap, self.gap_se)

    @property
    def mean_exact_log_likelihood(self) -> Estimate | None:
        return None if self.exact_log_likelihood is None else mean_over_points(self.exact_log_likelihood)

    @property
    def bits_per_dim(self) -> float | None:
        """−(log p̂(x) + log|dx/dpixel|) / (D log 2), averaged over points: bits for each pixel at the pixels' own scale, so
        that transforms of one data set can stand side by side. None where the data have no pixel scale."""
        if self.log_jacobian is None:
            return None
        return float(-(self.log_likelihood + self.log_jacobian).double().mean() / (self.dim * math.log(2)))

    def to_arviz(self) -> Any:
        """An `arviz.InferenceData`: per-point values in `sample_stats` over the dimension `point`, L_K as `bound` over
        `draws` too, the card in its attributes.

        `.to_netcdf(path)` saves it, `arviz.from_netcdf(path)` reads it back.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # 0.23 announces 1.0 at every import
            import arviz
        import xarray

        values = {name: getattr(self, name) for name in (*STATISTICS, "gap")}
        if self.exact_log_likelihood is not None:
            values["exact_log_likelihood"] = self.exact_log_likelihood
        if self.log_jacobian is not None:
            values["log_jacobian"] = self.log_jacobian
        attributes = {
            key: value if isinstance(value, int | float | str) else str(value) for key, value in self.metadata.items()
        }
        attributes |= {
            "num_samples": self.num_samples,
            "latent": self.latent,
            "dim": self.dim,
            "data_hash": self.data_hash,
        }
        attributes |= {"pareto_k_threshold": self.pareto_k_threshold, "reliability_message": self.reliability_message}
        variables: dict[str, Any] = {name: ("point", value.numpy()) for name, value in values.items()}
        variables["bound"] = (("draws", "point"), self.bound_curve.value.numpy())
        variables["bound_se"] = (("draws", "point"), self.bound_curve.se.numpy())
        stats = xarray.Dataset(
            variables,
            coords={"point": range(len(self)), "draws": list(self.bound_curve.num_samples)},
            attrs=attributes,
        )
        return arviz.InferenceData(sample_stats=stats)
