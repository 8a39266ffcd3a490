"""The methods that estimate log p(x) to a tolerance, in order of cost: the exact value, the posterior's modes, the guide's draws."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidInputError
from ..estimators.mode_sampling import mode_sampling_log_likelihood
from ..pair.execution import ModelOrGuide
from ..pair.parameters import is_per_point
from ..posterior.joint_density import Joint
from ..posterior.refinement import check_no_circles

EXACT = "exact"
LAPLACE = "laplace"
IMPORTANCE_SAMPLING = "importance_sampling"
MAX_LATENTS = 128  # dimensions of u, above which a Hessian for each point costs more than it gains


@dataclass(frozen=True)
class MethodResult:
    """log p̂(x) of every point by one method: tensors (N,) on the CPU, nats."""

    method: str
    log_likelihood: Tensor
    log_likelihood_se: Tensor
    num_draws: Tensor
    shortfall: Tensor  # by how much log p̂(x) may be too low, as far as its draws show: 0 where it is reliable
    message: str = ""  # what the method itself says of its reliability


def exact_result(exact: Tensor) -> MethodResult:
    """The values of the model's own `log_prob`, which need no draws."""
    zero = torch.zeros_like(exact)
    return MethodResult(EXACT, exact, zero, zero.long(), zero, "Exact at every point: the model knows log p(x).")


def laplace_result(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    tolerance: float,
    seed: int,
    on_progress: Callable[[float], None] | None = None,
) -> MethodResult:
    """Importance sampling from a mixture about the modes of each point's posterior."""
    found = mode_sampling_log_likelihood(model, guide, x, tolerance, seed, on_progress=on_progress)
    values = (found.log_likelihood, found.log_likelihood_se, found.num_draws, found.shortfall)
    return MethodResult(LAPLACE, *values, found.reliability_message)


def why_not_laplace(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> str:
    """Why modes are not searched for this pair, as a sentence; "" where they are."""
    try:
        joint = Joint(model, guide, x if is_per_point(guide, x) else x[:2])
        check_no_circles(joint.structure)
    except InvalidInputError as refusal:
        reason = str(refusal).partition(":")[0].partition(", and ")[0]  # without what is to be done about it
        return f"{reason.rstrip('.')}."
    if joint.size > MAX_LATENTS:
        return f"The posterior has {joint.size} dimensions, and its modes are searched in at most {MAX_LATENTS}."
    return ""
