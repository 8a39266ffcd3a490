"""The evidence of one pair, averaged over several trainings."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..statistics.bound_curve import BoundCurve
from .result import Evidence


def average_evidence(trainings: Sequence[Evidence]) -> Evidence:
    """The mean over trainings of every number of every point; its errors are those of the draws.

    `ess` is the mean, `pareto_k` and `shortfall` are the worst of each point, `seconds` and `num_draws` the sum. The message is that
    of the training with the least reliable points.
    """
    first, count = trainings[0], len(trainings)

    def stacked(name: str) -> Tensor:
        return torch.stack([getattr(each, name).double() for each in trainings])

    def error(name: str) -> Tensor:
        return stacked(name).square().sum(0).sqrt() / count

    worst = min(trainings, key=lambda each: float(each.reliable.double().mean()))
    curve = BoundCurve(
        first.bound_curve.num_samples,
        torch.stack([each.bound_curve.value.double() for each in trainings]).mean(0),
        torch.stack([each.bound_curve.se.double() for each in trainings]).square().sum(0).sqrt() / count,
    )
    means = ("elbo", "log_likelihood", "log_likelihood_jackknife", "ess")
    errors = ("elbo_se", "log_likelihood_se", "gap_se")
    message = f"Of {count} trainings the least reliable: {worst.method_message}" if worst.method_message else ""
    numbers: dict[str, Any] = {name: stacked(name).mean(0) for name in means} | {name: error(name) for name in errors}
    return replace(
        first,
        **numbers,
        exact_log_likelihood=None if first.exact_log_likelihood is None else stacked("exact_log_likelihood").mean(0),
        shortfall=_largest(stacked("shortfall")),
        pareto_k=_largest(stacked("pareto_k")),
        num_draws=torch.stack([each.num_draws for each in trainings]).sum(0),
        method_message=message,
        bound_curve=curve,
        seconds=sum(each.seconds for each in trainings),
    )


def _largest(values: Tensor) -> Tensor:
    """The largest of each column: NaN, which is unknown, is the worst."""
    return torch.where(values.isnan().any(0), math.nan, values.nan_to_num(0.0, math.inf, -math.inf).amax(0))
