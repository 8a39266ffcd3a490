"""Sums over log-weights that come in blocks: enough for log p̂ and its error, without a fit of their tail. No Pyro here.

`streaming` keeps more: the largest weights for the Pareto fit, the jackknife and the bound curve.
"""

import math
from dataclasses import dataclass

from torch import Tensor, logaddexp, maximum


@dataclass(frozen=True)
class WeightSums:
    """What `count` weights of each point add up to: (N,) each."""

    count: int
    log_sum: Tensor
    log_sum_of_squares: Tensor
    largest: Tensor  # the largest log w

    @classmethod
    def of(cls, log_w: Tensor) -> "WeightSums":
        """The sums of log-weights (count, N)."""
        return cls(len(log_w), log_w.logsumexp(0), (2 * log_w).logsumexp(0), log_w.amax(0))

    @property
    def log_likelihood(self) -> Tensor:
        """log p̂, nats."""
        return self.log_sum - math.log(self.count)

    @property
    def ess(self) -> Tensor:
        """Effective sample size, (Σ w)² / Σ w²."""
        return (2 * self.log_sum - self.log_sum_of_squares).exp()

    @property
    def relative_variance(self) -> Tensor:
        """Var w / (E w)²."""
        return (self.count / self.ess - 1).clamp(min=0) * self.count / (self.count - 1)

    @property
    def log_likelihood_se(self) -> Tensor:
        """Standard error of log p̂ over its draws, by the delta method, nats."""
        return (self.relative_variance / self.count).sqrt()

    @property
    def largest_weight(self) -> Tensor:
        """The share of the largest weight in the sum."""
        return (self.largest - self.log_sum).exp()

    def subset(self, rows: Tensor) -> "WeightSums":
        """The sums of the points that the mask `rows` names."""
        return WeightSums(self.count, self.log_sum[rows], self.log_sum_of_squares[rows], self.largest[rows])

    def joined(self, other: "WeightSums") -> "WeightSums":
        """The sums over the draws of both."""
        return WeightSums(
            self.count + other.count,
            logaddexp(self.log_sum, other.log_sum),
            logaddexp(self.log_sum_of_squares, other.log_sum_of_squares),
            maximum(self.largest, other.largest),
        )
