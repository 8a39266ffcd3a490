"""A mean over data points with its two standard errors."""

import math
from typing import Any, NamedTuple

from torch import Tensor

from ..utils.export import json_number


class Estimate(NamedTuple):
    """A mean over data points with its two errors, which answer different questions and are never added up.

    `mc_se`: how far another set of latent draws would move it, on the same points. `data_se`: how far another set of points
    from the same source would, sd / √N.
    """

    value: float
    mc_se: float
    data_se: float

    def to_dict(self) -> dict[str, Any]:
        """The three numbers by name, ready for JSON: a number that is not finite is None."""
        return {name: json_number(number) for name, number in self._asdict().items()}


def mean_difference(values: Tensor, se: Tensor, other: Tensor, other_se: Tensor) -> Estimate:
    """Return the mean of `values` − `other`, paired point by point, so that what makes a point hard for both cancels.

    All are (N,). The Monte Carlo errors of the two are independent.
    """
    return mean_over_points(values - other, (se.square() + other_se.square()).sqrt())


def mean_over_points(values: Tensor, se: Tensor | None = None) -> Estimate:
    """Return the mean of `values` (N,).

    Its Monte Carlo error follows from `se` (N,), the error of each point. Without `se` the values are exact.
    """
    points = len(values)
    mc = 0.0 if se is None else float(se.double().square().sum().sqrt() / points)
    data = float(values.double().std() / math.sqrt(points)) if points > 1 else math.nan
    return Estimate(float(values.double().mean()), mc, data)


def without_logarithm_bias(log_likelihood: Tensor, se: Tensor) -> Tensor:
    """log p̂ + se²/2: the logarithm of an unbiased p̂ is too low by half of its variance, in the second order. (N,) each, nats."""
    return log_likelihood.double() + 0.5 * se.double().square()
