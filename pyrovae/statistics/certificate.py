"""A lower bound on the mean of log p(x) that holds with a stated probability, whatever the weights' tails."""

import math
from typing import Any

from torch import Tensor

from ..errors import InvalidInputError


def certified_lower_bound(log_likelihood: Tensor, delta: float) -> float:
    """mean log p̂ − log(1/δ) / N ≤ mean log p(x), with probability at least 1 − δ: a number in nats per point.

    Π_n p̂(x_n) / p(x_n) is not negative. Its mean is 1 if every p̂ is unbiased and independent of the others. By Markov's
    inequality it exceeds 1/δ with probability at most δ. Nothing is asked of the weights' variance or tails.

    Args:
        log_likelihood: log p̂(x_n), (N,), nats. p̂ must be unbiased: a mean of weights, their number not chosen by themselves.
        delta: δ, between 0 and 1.

    Raises:
        InvalidInputError: δ is not between 0 and 1.
    """
    check_delta(delta)
    return float(log_likelihood.double().mean()) - math.log(1 / delta) / len(log_likelihood)


def check_delta(delta: Any) -> None:
    """Raise `InvalidInputError` for anything but a number between 0 and 1."""
    if not (isinstance(delta, int | float) and 0 < delta < 1):
        raise InvalidInputError(f"delta is {delta!r:.40}: give a probability between 0 and 1, such as 0.025.")
