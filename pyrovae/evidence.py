"""What log-weights say about log p(x): tensor functions of log w (samples, N), in nats per data point. No Pyro here."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor


def elbo(log_w: Tensor) -> Tensor:
    """L = E_q[log w], estimated by the mean over samples. (samples, N) → (N,), nats."""
    return log_w.mean(dim=0)


def log_likelihood(log_w: Tensor) -> Tensor:
    """log p̂ = log (1/K) Σ_s w_s, K the number of rows. (samples, N) → (N,), nats.

    A lower bound on log p(x) in expectation that tightens as K grows (Burda, Grosse & Salakhutdinov 2016, theorem 1).
    """
    return torch.logsumexp(log_w, dim=0) - math.log(len(log_w))


def log_likelihood_se(log_w: Tensor) -> Tensor:
    """Standard error of log p̂ over its draws, by the delta method: sd(w) / (√K mean(w)). (samples, N) → (N,), nats.

    It is as good as the weights' second moment; where the ESS is a handful it is too small. NaN for one sample.
    """
    samples = len(log_w)
    return ((samples / ess(log_w) - 1).clamp(min=0) / (samples - 1)).sqrt() if samples > 1 else _nan(log_w)


def elbo_se(log_w: Tensor) -> Tensor:
    """Standard error of the ELBO over its draws: sd(log w) / √K. (samples, N) → (N,), nats. NaN for one sample."""
    return log_w.std(dim=0) / math.sqrt(len(log_w)) if len(log_w) > 1 else _nan(log_w)


def gap_se(log_w: Tensor) -> Tensor:
    """Standard error of log p̂ − L, both from the same draws: sd(w / mean(w) − log w) / √K. (samples, N) → (N,), nats."""
    influence = (log_w - log_likelihood(log_w)).exp() - log_w
    return influence.std(dim=0) / math.sqrt(len(log_w)) if len(log_w) > 1 else _nan(log_w)


def ess(log_w: Tensor) -> Tensor:
    """Effective sample size (Σ w)² / Σ w², between 1 and K. (samples, N) → (N,). Kong 1992."""
    w = log_w - log_w.max(dim=0).values  # relative to the largest: thousands of nats cost no digits
    return (2 * torch.logsumexp(w, dim=0) - torch.logsumexp(2 * w, dim=0)).exp()


def _nan(log_w: Tensor) -> Tensor:
    return torch.full_like(log_w[0], math.nan)


class Estimate(NamedTuple):
    """A mean over data points with its two errors, which answer different questions and are never added up.

    `mc_se`: how far another set of latent draws would move it, on the same points. `data_se`: how far another set of points
    from the same source would, sd / √N.
    """

    value: float
    mc_se: float
    data_se: float


def mean_over_points(values: Tensor, se: Tensor | None = None) -> Estimate:
    """Mean of `values` (N,) with the Monte-Carlo error that follows from each point's `se` (N,), none if they are exact."""
    points = len(values)
    mc = 0.0 if se is None else float(se.double().square().sum().sqrt() / points)
    data = float(values.double().std() / math.sqrt(points)) if points > 1 else math.nan
    return Estimate(float(values.double().mean()), mc, data)


@dataclass(frozen=True, repr=False)
class Evidence:
    """What `evaluate` found, point by point: tensors of shape (N,) on the CPU, nats; `mean_*` are over points.

    `elbo ≤ log p(x)` and `log_likelihood ≤ log p(x)`, both in expectation. `exact_log_likelihood` is the model's own
    `log_prob`, where it has one. `log_jacobian` is log|dx/dpixel|, where the data have a pixel scale.
    """

    elbo: Tensor
    elbo_se: Tensor
    log_likelihood: Tensor
    log_likelihood_se: Tensor
    gap_se: Tensor
    ess: Tensor
    exact_log_likelihood: Tensor | None
    log_jacobian: Tensor | None
    samples: int
    dim: int  # numbers that the model observes of one x
    latent: str
    parameters: int
    measure: str  # "counting": probabilities; "Lebesgue": densities; "mixed"
    points: str  # fingerprint of x: what may be compared with what
    seconds: float
    card: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.elbo)

    def __repr__(self) -> str:
        value, mc_se, data_se = self.mean_log_likelihood
        return (
            f"Evidence({len(self)} points, {self.samples} samples: log p̂(x) {value:.3f} ± {mc_se:.3f} ± {data_se:.3f}, "
            f"ELBO {self.mean_elbo.value:.3f}, gap {self.mean_gap.value:.3f}, ESS {self.ess.mean():.0f})"
        )

    @property
    def gap(self) -> Tensor:
        """log p̂ − L: an estimate of KL(q(z|x) ‖ p(z|x)), low by as much as log p̂ is low. (N,), nats."""
        return self.log_likelihood - self.elbo

    @property
    def mean_elbo(self) -> Estimate:
        return mean_over_points(self.elbo, self.elbo_se)

    @property
    def mean_log_likelihood(self) -> Estimate:
        return mean_over_points(self.log_likelihood, self.log_likelihood_se)

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
        """An `arviz.InferenceData`: per-point values in `sample_stats` over the dimension `point`, the card in its attributes.

        `.to_netcdf(path)` saves it, `arviz.from_netcdf(path)` reads it back.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # 0.23 announces 1.0 at every import
            import arviz
        import xarray

        names = ["elbo", "elbo_se", "log_likelihood", "log_likelihood_se", "gap", "gap_se", "ess"]
        values = {name: getattr(self, name) for name in names}
        if self.exact_log_likelihood is not None:
            values["exact_log_likelihood"] = self.exact_log_likelihood
        if self.log_jacobian is not None:
            values["log_jacobian"] = self.log_jacobian
        attributes = {
            key: value if isinstance(value, int | float | str) else str(value) for key, value in self.card.items()
        }
        attributes |= {"samples": self.samples, "latent": self.latent, "dim": self.dim, "fingerprint": self.points}
        stats = xarray.Dataset(
            {name: ("point", value.numpy()) for name, value in values.items()},
            coords={"point": range(len(self))},
            attrs=attributes,
        )
        return arviz.InferenceData(sample_stats=stats)
