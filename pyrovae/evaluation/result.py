"""Evidence: what `evaluate` returns."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..statistics.bound_curve import BoundCurve
from ..statistics.estimate import Estimate, mean_over_points
from ..statistics.pareto import is_high_pareto_k, pareto_k_threshold
from ..statistics.reliability import JudgedResult
from ..utils.notebook import ShownAsHTML
from .methods import IMPORTANCE_SAMPLING
from .point_tables import point_table
from .reliability import reliability_message

if TYPE_CHECKING:
    from pandas import DataFrame

CHAINS, DRAWS = 4, 25  # of `to_arviz`
LEAST_ERROR = 1e-6  # nats: the spread of these draws where log p(x) is exact


@dataclass(frozen=True, repr=False)
class Evidence(JudgedResult, ShownAsHTML):
    """What `evaluate` found, point by point: tensors of shape (N,) on the CPU, nats; `mean_*` are over points.

    `log_likelihood` is log p̂(x) by the `method` of each point, from `num_draws` draws. `elbo` and `bound`, the K-sample bound L_K
    (Burda et al. 2016), come from K = `num_samples` draws of the guide. All three are at most log p(x) in expectation;
    `log_likelihood_jackknife` corrects L_K and is no bound. `reliability` and `reliability_message` say whether the mean of log p̂(x)
    may be believed, and `reliable` at which points. `ess` and `pareto_k` are of the guide's weights. `exact_log_likelihood` is the
    model's own `log_prob`, where it has one. `log_jacobian` is log|dx/dpixel|, where the data have a pixel scale. Errors are NaN
    for one sample.
    """

    labels: ClassVar[Mapping[str, str]] = {
        "exact_log_likelihood": "exact log p(x)",
        "log_likelihood": "log p̂(x)",
        "bound": "K-sample bound",
        "log_likelihood_jackknife": "K-sample bound, jackknife",
        "elbo": "ELBO",
        "gap": "gap",
        "bound_error": "bound error",
    }
    other_values: ClassVar[tuple[str, ...]] = ("num_draws", "shortfall", "ess", "pareto_k", "log_jacobian")
    # The jackknife differs from L_K by a correction that is small wherever either is to be believed.
    errors: ClassVar[Mapping[str, str]] = {"log_likelihood_jackknife": "bound_se"}

    elbo: Tensor
    elbo_se: Tensor
    log_likelihood: Tensor
    log_likelihood_se: Tensor
    log_likelihood_jackknife: Tensor
    gap_se: Tensor
    method: tuple[str, ...]  # of each point: "exact", "laplace", "ais" or "importance_sampling"
    num_draws: Tensor  # from which log p̂(x) was computed
    shortfall: Tensor  # by how much log p̂(x) may be too low, as far as its draws show: 0 where it is reliable
    tolerance: float | None  # the standard error that each point was to have; None for the K-sample bound
    method_message: str  # what the method says of its reliability; "" for the K-sample bound
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
    num_missing: int = 0  # entries of all x, which log p(x) is not of
    deterministic_guide: bool = False  # weights do not vary: gap, ESS and k̂ are NaN
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        value, mc_se, data_se = self.mean_log_likelihood
        if self.deterministic_guide:
            return f"Evidence({len(self)} points, a guide that draws nothing: ELBO {value:.3f} ± {data_se:.3f})"
        by = f"{self.num_samples} samples" if self._is_bound else ", ".join(dict.fromkeys(self.method))
        weights = f"ESS {self.ess.mean():.0f}"
        if math.isfinite(self.pareto_k_threshold):  # with few draws there is no tail to fit
            weights += f", k̂ above {self.pareto_k_threshold:.2f} on {self.high_pareto_k_fraction:.0%}"
        return (
            f"Evidence({len(self)} points, {by}: log p̂(x{self.given and f' | {self.given}'}) {value:.3f} ± {mc_se:.3f} ± {data_se:.3f}, "
            f"ELBO {self.mean_elbo.value:.3f}, gap {self.mean_gap.value:.3f}, {weights})"
        )

    @property
    def gap(self) -> Tensor:
        """The gap log p̂ − L of each point, (N,), nats: an estimate of KL(q(z|x) ‖ p(z|x)).

        It is too low by as much as log p̂ is too low. It is NaN for a deterministic guide, whose gap no draw shows.
        """
        if self.deterministic_guide:
            return torch.full_like(self.elbo, math.nan)
        return self.log_likelihood - self.elbo

    @property
    def bound(self) -> Tensor:
        """The K-sample bound L_K of all draws of the guide: (N,), nats."""
        return self.bound_curve.value[-1]

    @property
    def bound_se(self) -> Tensor:
        return self.bound_curve.se[-1]

    @property
    def bound_error(self) -> Tensor | None:
        """log p̂(x) − L_K, what the K-sample bound loses: (N,), nats. None where log p̂(x) is that bound."""
        return None if self._is_bound else self.log_likelihood - self.bound

    @property
    def bound_error_se(self) -> Tensor:
        """The two come from independent draws."""
        return (self.log_likelihood_se.square() + self.bound_se.square()).sqrt()

    @property
    def _is_bound(self) -> bool:
        return set(self.method) == {IMPORTANCE_SAMPLING}

    @property
    def reached(self) -> Tensor:
        """Whether the standard error of a point is at most the tolerance: (N,). Of the K-sample bound, which has none, True."""
        limit = math.inf if self.tolerance is None else self.tolerance
        return ~(self.log_likelihood_se > limit)

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
        given = f"This is log p(x | {self.given}), with these global latents fixed at one point. " if self.given else ""
        few = f" {self.metadata['few_values']}" if self.metadata.get("few_values") else ""
        if not self._is_bound:
            return given + self.method_message + few
        bias = self.mean_log_likelihood_jackknife.value - self.mean("bound").value
        message = reliability_message(self.num_samples, self.pareto_k, self.ess, bias, self.deterministic_guide)
        return given + f"{self.method_message} {message}".lstrip() + few

    @property
    def given(self) -> str:
        """The names of global latents that were fixed at a point (`condition_on_globals`); empty if there are none."""
        return ", ".join(self.metadata.get("conditional_on", ()))

    @property
    def bits_per_dim(self) -> float | None:
        """Bits per dimension, −(log p̂(x) + log|dx/dpixel|) / (D log 2), averaged over points.

        Where entries are missing, it is the sum over all points divided by the number of observed entries.

        They are at the scale of the pixels, so that transforms of one data set can be compared. None where the data
        have no pixel scale.
        """
        if self.log_jacobian is None:
            return None
        observed = self.dim - self.num_missing / len(self.elbo)
        return float(-(self.log_likelihood + self.log_jacobian).double().mean() / (observed * math.log(2)))

    @property
    def bounds(self) -> Mapping[str, str]:
        return {"elbo": "lower", "bound": "lower", "log_likelihood": "lower"}

    def summary(self) -> dict[str, Any]:
        """What the numbers are of, and whether they can be relied on."""
        return {
            "num_samples": self.num_samples,
            "latent": self.latent,
            "dim": self.dim,
            "data_hash": self.data_hash,
            "pareto_k_threshold": self.pareto_k_threshold,
            "tolerance": self.tolerance,
            "reached_fraction": float(self.reached.double().mean()),
            **super().summary(),
        }

    def table(self, rows: Tensor | None = None, labels: Sequence[Any] | None = None) -> "DataFrame":
        """Return a line for each point, in the order of x, as a pandas DataFrame.

        Args:
            rows: The row of each point in its source, such as `data.test_rows`. Default: 0, 1, 2, …
            labels: A label for each point.

        Returns:
            The columns `row`, `label`, `log_likelihood`, `log_likelihood_se` (nats), `method`, `reliability`
            ("reliable", "lower_bound" or "not_estimated") and `rank`, 1 for the point of the lowest log p̂(x).
        """
        return point_table(self.log_likelihood, self.log_likelihood_se, self.method, self.shortfall, rows, labels)

    def ranking(self, rows: Tensor | None = None, labels: Sequence[Any] | None = None) -> "DataFrame":
        """Return `table` sorted by log p̂(x): the points that the model finds least probable come first.

        Two points are told apart only where their log p̂(x) differ by more than their standard errors. A
        density is large where columns hardly vary, so a low rank is a reason to look, and no test.
        """
        return self.table(rows, labels).sort_values("rank").set_index("rank").reset_index()

    def to_dict(self) -> dict[str, Any]:
        """As `PointwiseResult.to_dict`, with the method of each point, and the bound curve averaged over points."""
        numbers = super().to_dict()
        numbers["per_point"]["method"] = list(self.method)
        return {**numbers, "bound_curve": self.bound_curve_rows()}

    def bound_curve_rows(self) -> list[dict[str, Any]]:
        """L_K averaged over points, an object with `num_samples` and the estimate for each K."""
        return [{"num_samples": K, **bound.to_dict()} for K, bound in self.mean_bound_curve.items()]

    def datasets(self) -> dict[str, Any]:
        """Return the groups of `to_arviz`.

        `sample_stats` has the method of each point, and L_K over `draws` as `bound_curve` too. `posterior` has `log_px`
        and `log_likelihood` has `x`, over chain, draw and point: both are log p(x) of each point. Its draws are
        quantiles of N(log p̂, se²). They stand for the Monte Carlo error alone, as parameters are fixed. So `arviz.loo`
        sums log p̂ − se²/2, and `arviz.compare` has the paired errors of `compare`.
        """
        import xarray

        (stats,) = super().datasets().values()
        stats["method"] = ("point", list(self.method))
        stats = stats.assign_coords(draws=list(self.bound_curve.num_samples))
        stats["bound_curve"] = (("draws", "point"), self.bound_curve.value.numpy())
        stats["bound_curve_se"] = (("draws", "point"), self.bound_curve.se.numpy())
        values = (("chain", "draw", "point"), _draws(self.log_likelihood, self.log_likelihood_se))
        coords = {"chain": range(CHAINS), "draw": range(DRAWS), "point": range(len(self))}
        return {
            "posterior": xarray.Dataset({"log_px": values}, coords=coords),
            "log_likelihood": xarray.Dataset({"x": values}, coords=coords),
            "sample_stats": stats,
        }


def _draws(value: Tensor, se: Tensor) -> np.ndarray:
    """Quantiles of N(value, se²), in another order for each point: (chains, draws, N). ArviZ refuses draws that are all equal."""
    ranks = (torch.arange(CHAINS * DRAWS, dtype=torch.float64) + 0.5) / (CHAINS * DRAWS)
    errors = torch.special.ndtri(ranks)
    order = np.random.default_rng(0).permuted(np.tile(np.arange(len(ranks)), (len(value), 1)), axis=1)
    width = se.double().nan_to_num().clamp(min=LEAST_ERROR)
    draws = value.double() + width * (errors / errors.std(correction=0))[torch.from_numpy(order)].mT
    return np.asarray(draws.reshape(CHAINS, DRAWS, -1).numpy())
