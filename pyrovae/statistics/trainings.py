"""A mean over points and over repeated trainings, with an error for each source of chance."""

import math
from typing import NamedTuple

from torch import Tensor

from ..utils.export import json_number
from .paired_tests import student_t_quantile


class RepeatedEstimate(NamedTuple):
    """A mean over points and trainings, or a difference of two, in nats per point.

    `mc_se`: how far other latent draws would move it. `data_se`: how far other points would. `train_se`: how far trainings from
    other seeds would, on the same training points; NaN for one training, which does not tell.
    """

    value: float
    mc_se: float
    data_se: float
    train_se: float
    degrees_of_freedom: float  # of the error of all sources together (Satterthwaite 1946)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Holds the mean over all points and trainings with probability `level`: Student's t, all sources of chance together."""
        if not math.isfinite(self.train_se):
            return -math.inf, math.inf
        # the draws' noise is part of the spread over points
        width = student_t_quantile((1 + level) / 2, self.degrees_of_freedom) * math.hypot(self.train_se, self.data_se)
        return self.value - width, self.value + width

    def to_dict(self) -> dict[str, float | None]:
        """Ready for JSON: a number that is not finite is None."""
        low, high = self.interval()
        numbers = {**self._asdict(), "interval_low": low, "interval_high": high}
        return {name: json_number(number) for name, number in numbers.items()}


def mean_over_trainings(values: Tensor, se: Tensor) -> RepeatedEstimate:
    """Mean of what R trainings give to N points, (R, N), with each number's own standard error, (R, N)."""
    return _estimate(values.double().mean(0), [_Trainings.of(values, se)])


def difference_over_trainings(values: Tensor, se: Tensor, other: Tensor, other_se: Tensor) -> RepeatedEstimate:
    """Mean of `values` (R, N) − `other` (S, N), paired by point. Trainings are independent of each other."""
    difference = values.double().mean(0) - other.double().mean(0)
    return _estimate(difference, [_Trainings.of(values, se), _Trainings.of(other, other_se)])


class _Trainings(NamedTuple):
    """What chance in training adds to the variance of one model's mean."""

    variance: float
    mc_variance: float
    num_trainings: int

    @classmethod
    def of(cls, values: Tensor, se: Tensor) -> "_Trainings":
        """The spread of the trainings' means, less the part of it that the latent draws explain."""
        count, points = values.shape
        mc = float(se.double().square().sum()) / points**2 / count  # of one training's mean
        spread = float(values.double().mean(1).var()) if count > 1 else math.nan
        return cls(max(0.0, spread - mc) / count if count > 1 else math.nan, mc / count, count)


def _estimate(per_point: Tensor, models: list[_Trainings]) -> RepeatedEstimate:
    points = len(per_point)
    data = float(per_point.var()) / points if points > 1 else math.nan
    train = sum(model.variance for model in models)
    parts = [(model.variance, model.num_trainings - 1) for model in models] + [(data, points - 1)]
    weighted = sum(variance**2 / degrees for variance, degrees in parts if degrees > 0 and variance > 0)
    freedom = (train + data) ** 2 / weighted if weighted > 0 else math.inf
    mc = sum(model.mc_variance for model in models)
    return RepeatedEstimate(float(per_point.mean()), mc**0.5, data**0.5, train**0.5, freedom)
