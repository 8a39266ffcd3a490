"""Which of several models may be the best, from what each gives to the same points."""

import math

import torch
from torch import Tensor

from ..errors import InvalidInputError

MAX_UNKNOWN_FRACTION = 0.05  # of the points: above it a model cannot be told from the best


def best_set(values: Tensor, shortfall: Tensor | None = None, *, level: float = 0.95) -> Tensor:
    """Which models cannot be told from the one with the highest mean.

    The set holds the model with the highest expected value with a probability of at least `level`. A model is left
    out if its mean is too far below the highest one. Too far is a quantile of Student's t times the standard error of
    the paired difference. The quantile is that of a one-sided test at (1 − level)/(C − 1), which pays for the choice
    of the highest mean among C (Bonferroni). Models are taken as they are: how another training would move them is no
    part of it.

    Args:
        values: What each of C models gives to each point, such as log p̂(x_n): (C, N). The noise of draws is part of the spread over
            points, and so of the standard errors.
        shortfall: By how much each may be too low, (C, N), which is added before a model is left out. A point where it is
            infinite or NaN is left out instead. If these are more than 5 % of the points, the model stays in the set.
        level: The probability, between 0 and 1.

    Returns:
        (C,), true for the members.

    Raises:
        InvalidInputError: `level` is not between 0 and 1.
    """
    check_level(level)
    values = values.double()
    missing = torch.zeros_like(values) if shortfall is None else shortfall.double()
    best = int(values.mean(1).argmax())
    members = torch.ones(len(values), dtype=torch.bool)
    for place in set(range(len(values))) - {best}:
        known = missing[place].isfinite()
        difference = (values[place] - values[best])[known]
        points = len(difference)
        if points < 2 or points < (1 - MAX_UNKNOWN_FRACTION) * len(known):
            continue
        quantile = student_t_quantile(1 - (1 - level) / (len(values) - 1), points - 1)
        lowest = -quantile * float(difference.std()) / math.sqrt(points)
        members[place] = float(difference.mean() + missing[place][known].mean()) >= lowest
    return members


def check_level(level: float) -> None:
    """Raise `InvalidInputError` for what is no probability of an interval."""
    if not 0 < level < 1:
        raise InvalidInputError(f"level is {level!r:.40}: give a probability between 0 and 1, such as 0.95.")


def student_t_quantile(probability: float, degrees_of_freedom: float) -> float:
    """The quantile of Student's t distribution."""
    from scipy.special import stdtrit  # here, because SciPy is slow to import

    return float(stdtrit(degrees_of_freedom, probability))
