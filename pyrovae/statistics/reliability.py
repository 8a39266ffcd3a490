"""Whether an estimate of log p(x) can be relied on, from what each point may lack. No Pyro here."""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .result import PointwiseResult
from .weight_sums import WeightSums

MAX_MEAN_SHORTFALL = 0.01  # nats, by which the doubtful points may move a mean that is called reliable
MAX_FRACTION_WITHOUT_ESTIMATE = 0.05
MIN_ESS_FRACTION, FEW_DRAWS_ESS = 0.01, 20.0  # of the draws, and in all: below either a few draws carry the weight
MAX_WEIGHT = 0.1  # of the sum of a point's weights: one draw must not carry more
MIN_ESS = 2.0  # below it one draw has all the weight, and there is no estimate


def mean_reliability(shortfall: Tensor) -> str:
    """Judge a mean over points by how much each of them may be too low.

    Args:
        shortfall: How much each point may be too low, (N,): infinite where that is unknown, NaN where a point has no
            estimate.

    Returns:
        "reliable" if the mean shortfall is at most `MAX_MEAN_SHORTFALL`. "not_estimated" if more than
        `MAX_FRACTION_WITHOUT_ESTIMATE` of the points have no estimate. Else "lower_bound".
    """
    if float(shortfall.isnan().double().mean()) > MAX_FRACTION_WITHOUT_ESTIMATE:
        return "not_estimated"
    return "reliable" if float(shortfall.double().nan_to_num(math.inf).mean()) <= MAX_MEAN_SHORTFALL else "lower_bound"


def weight_shortfall(sums: WeightSums, *, min_ess: float | None = None, max_weight: float = MAX_WEIGHT) -> Tensor:
    """By how much log p̂(x) may be too low, as far as its weights show, nats: (N,).

    0 where the effective sample size is at least `min_ess`, and no weight has more than the share `max_weight`. By default
    `min_ess` is the larger of `FEW_DRAWS_ESS` and `MIN_ESS_FRACTION` of the draws. A weight with the share r says that as
    much may be missing, −log(1 − r), and a standard error is added. NaN where one weight has all.
    """
    min_ess = max(FEW_DRAWS_ESS, MIN_ESS_FRACTION * sums.count) if min_ess is None else min_ess
    missing = sums.log_likelihood_se - torch.log1p(-sums.largest_weight)
    missing = torch.where(sums.ess < MIN_ESS, torch.nan, missing)
    return torch.where((sums.ess < min_ess) | (sums.largest_weight > max_weight), missing, 0.0)


class JudgedResult(PointwiseResult):
    """A result with an estimate of log p(x), and by how much that may be too low at each point.

    `shortfall` (N,), a field or a property, is in nats. It is 0 where the estimate is reliable, infinite where that
    is unknown, and NaN where there is no estimate.
    """

    if TYPE_CHECKING:

        @property
        def shortfall(self) -> Tensor: ...

    @property
    def reliable(self) -> Tensor:
        """Whether log p̂(x) of a point and its error may be believed: (N,). Where not, it is a lower bound."""
        return self.shortfall == 0

    @property
    def reliability(self) -> str:
        """Of the mean of log p̂(x): "reliable", "lower_bound" or "not_estimated"."""
        return mean_reliability(self.shortfall)

    @property
    def reliability_message(self) -> str:
        """A sentence or two: whether log p̂(x) may be believed and, where not, why."""
        raise NotImplementedError

    def summary(self) -> dict[str, Any]:
        """What can be relied on."""
        return {
            "reliable_fraction": float(self.reliable.double().mean()),
            "reliability": self.reliability,
            "reliability_message": self.reliability_message,
        }


def shortfall_text(shortfall: Tensor) -> str:
    """How much the doubtful points of a mean may raise it, as the end of a sentence."""
    missing = float(shortfall.double().mean())
    return (
        f"may raise the mean by about {missing:.2g} nats"
        if math.isfinite(missing)
        else "may raise it by an unknown amount"
    )
