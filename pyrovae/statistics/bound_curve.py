"""L_K over K: how the importance-weighted bound rises from the ELBO as more draws share one logarithm."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

CURVE_BASE = 10  # from one K to the next


def curve_sizes(num_samples: int) -> tuple[int, ...]:
    """Return K = 1, 10, 100, … as long as there are two blocks of so many draws, and `num_samples` itself."""
    sizes = [1]
    while sizes[-1] * CURVE_BASE <= num_samples // 2:
        sizes.append(sizes[-1] * CURVE_BASE)
    return (*sizes, num_samples) if num_samples > 1 else (1,)


class BoundCurve(NamedTuple):
    """L_K of every point: `value` and its standard error `se`, (len(samples), N), nats, for each K in `num_samples`."""

    num_samples: tuple[int, ...]
    value: Tensor
    se: Tensor


class RunningMoments:
    """Mean and standard error of rows (·, N) that come in pieces (Chan, Golub & LeVeque 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor = torch.zeros(())
        self.scatter: Tensor = torch.zeros(())  # Σ (v − mean)²

    def add(self, values: Tensor) -> None:
        mean, count = values.mean(dim=0), self.count + len(values)
        scatter = (values - mean).square().sum(dim=0)
        if self.count:
            between = (mean - self.mean).square() * (self.count * len(values) / count)
            self.scatter = self.scatter + scatter + between
            self.mean = self.mean * (self.count / count) + mean * (len(values) / count)
        else:
            self.mean, self.scatter = mean, scatter
        self.count = count

    @property
    def se(self) -> Tensor:
        """sd / √count: (N,). NaN for one row."""
        if self.count < 2:
            return torch.full_like(self.mean, math.nan)
        return (self.scatter / (self.count - 1) / self.count).sqrt()


class BoundCurveAccumulator:
    """L_K for K = 1, 10, 100, …, from log-weights that come in pieces.

    L_K is the mean of log (1/K) Σ w over disjoint blocks of K consecutive draws. Its error is their standard
    deviation over the square root of their number. Ten blocks of one K are one block of the next, so that no draw is
    kept for longer than that takes. Each K needs two blocks: K ≤ samples/2.
    """

    def __init__(self, num_samples: int):
        self.sizes = curve_sizes(num_samples)
        self.moments = [
            RunningMoments() for _ in self.sizes[: max(1, len(self.sizes) - 1)]
        ]  # the last K is all draws at once
        self.waiting: list[Tensor | None] = [None for _ in self.moments]

    def add(self, log_w: Tensor) -> None:
        """(s, N): the next s draws."""
        for level, moments in enumerate(self.moments):
            if not len(log_w):
                return
            moments.add(log_w)
            if level + 1 < len(self.moments):
                waiting = self.waiting[level]
                log_w = log_w if waiting is None else torch.cat([waiting, log_w])
                whole = len(log_w) // CURVE_BASE * CURVE_BASE
                self.waiting[level] = log_w[whole:].clone()
                log_w = log_w[:whole].unflatten(0, (-1, CURVE_BASE)).logsumexp(dim=1) - math.log(CURVE_BASE)

    def curve(self, value: Tensor, se: Tensor) -> BoundCurve:
        """The curve: each K, and last all draws at once, whose bound and error are given."""
        each = self.moments[: len(self.sizes) - 1]
        return BoundCurve(
            self.sizes,
            torch.stack([*(moments.mean for moments in each), value]),
            torch.stack([*(moments.se for moments in each), se]),
        )
