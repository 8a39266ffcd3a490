"""The base of results that bound log p(x) from both sides."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..statistics.estimate import Estimate
from ..statistics.reliability import JudgedResult
from ..statistics.result import Row

MAX_WIDTH = 0.05  # nats, of a bracket whose lower bound is called reliable


@dataclass(frozen=True, repr=False)
class BracketResult(JudgedResult):
    """A lower and an upper bound on log p(x) of every point, both in expectation: tensors (N,) on the CPU, nats.

    `log_likelihood` is another name for `lower`. `reliability` is that of its mean, which is too low by at most the width.
    """

    labels: ClassVar[Mapping[str, str]] = {
        "lower": "from below",
        "upper": "from above",
        "width": "width of the bracket",
    }

    lower: Tensor
    lower_se: Tensor
    upper: Tensor  # infinite where there is none
    upper_se: Tensor
    width_se: Tensor  # of upper − lower

    @property
    def bounds(self) -> Mapping[str, str]:
        """The width is an upper bound on how far the lower bound is below log p(x)."""
        return {"lower": "lower", "upper": "upper", "width": "upper"}

    @property
    def width(self) -> Tensor:
        """The difference upper − lower of each point, (N,): in expectation the sum of the errors of both bounds."""
        return self.upper - self.lower

    @property
    def log_likelihood(self) -> Tensor:
        """The lower bound, (N,). It is the estimate of log p(x) that the upper bound checks."""
        return self.lower

    @property
    def log_likelihood_se(self) -> Tensor:
        return self.lower_se

    @property
    def shortfall(self) -> Tensor:
        """The width of a point, where that is more than two of its errors or unknown, else 0: (N,), nats."""
        return torch.where(self.width <= 2 * self.width_se, 0.0, self.width)

    @property
    def mean_lower(self) -> Estimate:
        return self.mean("lower")

    @property
    def mean_upper(self) -> Estimate:
        return self.mean("upper")

    @property
    def mean_width(self) -> Estimate:
        return self.mean("width")

    @property
    def mean_width_se(self) -> float:
        """The error that the mean width is judged by."""
        return self.mean_width.mc_se

    @property
    def reliability(self) -> str:
        """Of the mean of the lower bound: "reliable" where two errors above the mean width are at most `MAX_WIDTH`."""
        return "reliable" if self.mean_width.value + 2 * self.mean_width_se <= MAX_WIDTH else "lower_bound"

    def rows(self) -> list[Row]:
        *bounds, width = super().rows()
        return [*bounds, width._replace(bound="upper, of the error")]
