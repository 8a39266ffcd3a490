"""The methods that estimate log p(x) to a tolerance, in order of cost.

These are the exact value, a mixture about the modes of the posterior, and annealing from it. Where none of these is
possible, the draws of the guide are used.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import check_int
from ..estimators.mode_sampling import MAX_DRAWS, check_seconds, mode_sampling_log_likelihood
from ..estimators.partial_results import PartialResults
from ..estimators.sampling_to_tolerance import MIN_DRAWS
from ..pair.execution import ModelOrGuide

EXACT = "exact"
LAPLACE = "laplace"
AIS = "ais"
IMPORTANCE_SAMPLING = "importance_sampling"


@dataclass(frozen=True)
class MethodResult:
    """log p̂(x) of every point: tensors (N,) on the CPU, nats."""

    method: tuple[str, ...]  # of each point
    log_likelihood: Tensor
    log_likelihood_se: Tensor
    num_draws: Tensor
    shortfall: Tensor  # by how much log p̂(x) may be too low, as far as its draws show: 0 where it is reliable
    message: str = ""  # what the method itself says of its reliability


@dataclass(frozen=True)
class Limits:
    """How far the work for an estimate may go."""

    max_draws: int = MAX_DRAWS  # of a point
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        check_int("max_draws", self.max_draws, MIN_DRAWS)
        check_seconds(self.max_seconds)


def exact_result(exact: Tensor) -> MethodResult:
    """The values of the model's own `log_prob`, which need no draws."""
    zero = torch.zeros_like(exact)
    message = "Exact at every point: the model knows log p(x)."
    return MethodResult((EXACT,) * len(exact), exact, zero, zero.long(), zero, message)


def laplace_result(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    tolerance: float,
    seed: int,
    limits: Limits,
    otherwise: MethodResult,
    partial: PartialResults | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> MethodResult:
    """Importance sampling from a mixture about the modes of each point's posterior, or annealing from it where that is worth it.

    Points that `limits` leave no time for have the numbers of `otherwise`.
    """
    found = mode_sampling_log_likelihood(
        model,
        guide,
        x,
        tolerance,
        seed,
        max_draws=limits.max_draws,
        max_seconds=limits.max_seconds,
        partial=partial,
        on_progress=on_progress,
    )

    def merged(name: str) -> Tensor:
        return torch.where(found.without_draws, getattr(otherwise, name), getattr(found, name))

    methods = tuple(
        other if skipped else AIS if annealed else LAPLACE
        for other, skipped, annealed in zip(
            otherwise.method, found.without_draws.tolist(), found.annealed.tolist(), strict=True
        )
    )
    return MethodResult(
        methods,
        merged("log_likelihood"),
        merged("log_likelihood_se"),
        merged("num_draws"),
        merged("shortfall"),
        found.reliability_message,
    )
