"""What log-weights say about log p(x): tensor functions of log w (samples, N), in nats per data point. No Pyro here."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import Refusal
from ..statistics.bound_curve import BoundCurve, Ladder
from ..statistics.pareto import pareto_k_of_largest, pareto_k_threshold, tail_length
from .reliability import verdict


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

    It is as good as the weights' second moment; where the ESS is a handful it is too small. Raises `Refusal` for one sample.
    """
    samples = _at_least_two(log_w)
    return ((samples / ess(log_w) - 1).clamp(min=0) / (samples - 1)).sqrt()


def log_likelihood_jackknife(log_w: Tensor) -> Tensor:
    """K log p̂ − (K−1) (1/K) Σ_s log p̂₋ₛ, log p̂₋ₛ without draw s: log p̂ less its bias of order 1/K. (samples, N) → (N,), nats.

    Its own bias is of order 1/K² where the weights have moments enough (Quenouille 1956; Nowozin 2018, JVI₁). It is no bound,
    and where one draw carries nearly all the weight it overshoots. Raises `Refusal` for one sample.
    """
    samples = _at_least_two(log_w)
    ranked = log_w.sort(dim=0, descending=True).values
    rest = torch.log1p(-(ranked - torch.logsumexp(ranked, dim=0)).exp())  # log (1 − w_s / Σ w)
    rest[0] = torch.logsumexp(ranked[1:], dim=0) - torch.logsumexp(ranked, dim=0)  # of the largest, where 1 − r cancels
    return log_likelihood(log_w) - (samples - 1) * (rest.mean(dim=0) - math.log1p(-1 / samples))


def elbo_se(log_w: Tensor) -> Tensor:
    """Standard error of the ELBO over its draws: sd(log w) / √K. (samples, N) → (N,), nats. Raises `Refusal` for one."""
    samples = _at_least_two(log_w)
    return log_w.std(dim=0) / math.sqrt(samples)


def gap_se(log_w: Tensor) -> Tensor:
    """Standard error of log p̂ − L, both from the same draws: sd(w / mean(w) − log w) / √K. (samples, N) → (N,), nats.
    Raises `Refusal` for one sample."""
    samples = _at_least_two(log_w)
    influence = (log_w - log_likelihood(log_w)).exp() - log_w
    return influence.std(dim=0) / math.sqrt(samples)


def ess(log_w: Tensor) -> Tensor:
    """Effective sample size (Σ w)² / Σ w², between 1 and K. (samples, N) → (N,). Kong 1992."""
    w = log_w - log_w.max(dim=0).values  # relative to the largest: thousands of nats cost no digits
    return (2 * torch.logsumexp(w, dim=0) - torch.logsumexp(2 * w, dim=0)).exp()


def pareto_k(log_w: Tensor) -> Tensor:
    """k̂, the index of a Pareto tail fitted to the ⌈min(K/5, 3√K)⌉ largest weights by ArviZ. (samples, N) → (N,), on the CPU.

    Weights with a tail of index k have moments below 1/k: their mean is safe while k̂ is below `pareto_k_threshold(samples)`
    (Vehtari et al. 2024). −∞ where the largest weights are equal to rounding (no tail: an exact guide); +∞ where too few stand out for a
    fit; NaN where there are too few draws to say, K ≤ 20. k̂ knows only what was drawn: nothing of a mode that the guide never
    visits. Raises `Refusal` for one sample.
    """
    samples = _at_least_two(log_w)
    largest = log_w.topk(min(samples, tail_length(samples) + 1), dim=0).values
    return pareto_k_of_largest(largest, samples, torch.finfo(log_w.dtype).eps)


def bound_curve(log_w: Tensor) -> BoundCurve:
    """L_K for K = 1, 10, 100, … and all of the draws: the mean of log (1/K) Σ w over disjoint blocks of K consecutive draws,
    with the standard error of that mean; for all of them log p̂ and its error. (samples, N) → values (len(K), N), nats.

    It rises from the ELBO at K = 1 towards log p(x), by χ²(p ‖ q)/2K once K is large, where χ² is finite: a curve that still
    rises at its end has not arrived. A K that is not the last has two blocks at least.
    """
    ladder = Ladder(len(log_w))
    ladder.add(log_w)
    se = log_likelihood_se(log_w) if len(log_w) > 1 else torch.full_like(log_w[0], math.nan)
    return ladder.curve(log_likelihood(log_w), se)


def _at_least_two(log_w: Tensor) -> int:
    if len(log_w) < 2:
        raise Refusal("One draw has no error: take at least 2 samples, or ask for the estimate alone.")
    return len(log_w)


# What follows from the weights alone, a number for each point.
STATISTICS = (
    *("elbo", "elbo_se", "log_likelihood", "log_likelihood_se", "log_likelihood_jackknife"),
    *("gap_se", "ess", "pareto_k"),
)


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

    `elbo ≤ log p(x)` and `log_likelihood ≤ log p(x)`, both in expectation; `log_likelihood_jackknife` is no bound. `pareto_k`
    says of each point, and `verdict` of all, whether log p̂ may be believed. `exact_log_likelihood` is the model's own
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
    samples: int
    dim: int  # numbers that the model observes of one x
    latent: str
    parameters: int
    measure: str  # "counting": probabilities; "Lebesgue": densities; "mixed"
    points: str  # fingerprint of x: what may be compared with what
    seconds: float
    certain: bool = False  # the guide knows one z for each x: weights do not vary, and gap, ESS and k̂ are NaN
    card: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.elbo)

    def __repr__(self) -> str:
        value, mc_se, data_se = self.mean_log_likelihood
        if self.certain:
            return f"Evidence({len(self)} points, a guide that draws nothing: ELBO {value:.3f} ± {data_se:.3f})"
        return (
            f"Evidence({len(self)} points, {self.samples} samples: log p̂(x) {value:.3f} ± {mc_se:.3f} ± {data_se:.3f}, "
            f"ELBO {self.mean_elbo.value:.3f}, gap {self.mean_gap.value:.3f}, ESS {self.ess.mean():.0f}, "
            f"k̂ above {self.pareto_k_threshold:.2f} on {self.untrusted_share:.0%})"
        )

    @property
    def gap(self) -> Tensor:
        """log p̂ − L: an estimate of KL(q(z|x) ‖ p(z|x)), low by as much as log p̂ is low; NaN where the guide is `certain`, which
        is at a distance −log p(z|x) that no draw shows. (N,), nats."""
        if self.certain:
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
        samples, value, se = self.bound_curve
        return {K: mean_over_points(v, s) for K, v, s in zip(samples, value, se, strict=True)}

    @property
    def pareto_k_threshold(self) -> float:
        """min(1 − 1/log₁₀ K, 0.7) for these samples."""
        return pareto_k_threshold(self.samples)

    @property
    def untrusted(self) -> Tensor:
        """The points whose k̂ is not below its threshold, or cannot be told: (N,), true or false."""
        return ~((self.pareto_k < self.pareto_k_threshold) | (self.pareto_k == -math.inf))

    @property
    def untrusted_share(self) -> float:
        """The share of points whose k̂ is above its threshold, 0 … 1."""
        return float(self.untrusted.double().mean())

    @property
    def verdict(self) -> str:
        """A sentence or two: whether log p̂ is to be trusted and, where it is not, why, and what to do."""
        return verdict(self)

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
            key: value if isinstance(value, int | float | str) else str(value) for key, value in self.card.items()
        }
        attributes |= {"samples": self.samples, "latent": self.latent, "dim": self.dim, "fingerprint": self.points}
        attributes |= {"pareto_k_threshold": self.pareto_k_threshold, "verdict": self.verdict}
        variables: dict[str, Any] = {name: ("point", value.numpy()) for name, value in values.items()}
        variables["bound"] = (("draws", "point"), self.bound_curve.value.numpy())
        variables["bound_se"] = (("draws", "point"), self.bound_curve.se.numpy())
        stats = xarray.Dataset(
            variables,
            coords={"point": range(len(self)), "draws": list(self.bound_curve.samples)},
            attrs=attributes,
        )
        return arviz.InferenceData(sample_stats=stats)
