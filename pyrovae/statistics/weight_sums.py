"""Sums over log-weights that come in blocks: enough for log p̂ and its error, without a fit of their tail. No Pyro here.

`streaming` keeps more: the largest weights for the Pareto fit, the jackknife and the bound curve.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

POWERS = 4  # of the weights whose sums are kept


@dataclass(frozen=True)
class WeightSums:
    """What `count` weights of each of N points add up to."""

    count: int
    log_power_sums: Tensor  # (4, N), log Σ_k w_k^j, j = 1, …, 4
    largest: Tensor  # (N,), the largest log w

    @classmethod
    def of(cls, log_w: Tensor) -> "WeightSums":
        """The sums of log-weights (count, N)."""
        largest = log_w.amax(0)
        shift = torch.where(largest.isfinite(), largest, 0.0)
        w = (log_w - shift).exp()
        sums = torch.stack([(w**power).sum(0).log() + power * shift for power in range(1, POWERS + 1)])
        return cls(len(log_w), sums, largest)

    @property
    def log_sum(self) -> Tensor:
        return self.log_power_sums[0]

    @property
    def log_likelihood(self) -> Tensor:
        """log p̂, nats."""
        return self.log_sum - math.log(self.count)

    @property
    def ess(self) -> Tensor:
        """Effective sample size, (Σ w)² / Σ w²."""
        return (2 * self.log_sum - self.log_power_sums[1]).exp()

    @property
    def relative_variance(self) -> Tensor:
        """Var w / (E w)²."""
        return (self.count / self.ess - 1).clamp(min=0) * self.count / (self.count - 1)

    @property
    def relative_variance_se(self) -> Tensor:
        """Standard error of `relative_variance` over the draws, by the delta method.

        With m_j = E w^j / (E w)^j it is √((m₄ − 4 m₂ m₃ + 4 m₂³ − m₂²) / count).
        """
        powers = torch.arange(2, POWERS + 1, device=self.log_sum.device).unsqueeze(-1)
        second, third, fourth = (self.log_power_sums[1:] - math.log(self.count) - powers * self.log_likelihood).exp()
        variance = fourth - 4 * second * third + 4 * second**3 - second**2
        return (variance.clamp(min=0) / self.count).sqrt()

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
        return WeightSums(self.count, self.log_power_sums[:, rows], self.largest[rows])

    def joined(self, other: "WeightSums") -> "WeightSums":
        """The sums over the draws of both."""
        return WeightSums(
            self.count + other.count,
            torch.logaddexp(self.log_power_sums, other.log_power_sums),
            torch.maximum(self.largest, other.largest),
        )
