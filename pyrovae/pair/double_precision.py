"""A copy of a pair in double precision, for densities that single precision does not resolve."""

import copy

import torch
from torch import Tensor

from .execution import ModelOrGuide, modules


def in_double_precision(model: ModelOrGuide, guide: ModelOrGuide) -> tuple[ModelOrGuide, ModelOrGuide] | None:
    """A copy of the pair with all parameters and buffers in float64. The pair itself stays as it is.

    None where there is no such copy: where the pair uses modules that are not its own, as functions that use a global one do.
    """
    originals = modules(model, guide)
    if not any(module.state_dict() for module in originals):
        return None  # it makes its constants itself
    try:
        copies = copy.deepcopy((model, guide))
    except (RuntimeError, TypeError):  # a tensor that is no leaf, a lock, an open file
        return None
    own = {id(module) for module in originals}
    networks = modules(*copies)
    if any(id(module) in own for module in networks):
        return None
    for module in networks:
        module.double()
    return copies


def largest_difference(one: Tensor, other: Tensor) -> float:
    """The largest difference of two log-densities, nats; where both are infinite, none."""
    both = torch.isfinite(one) & torch.isfinite(other)
    return float((one.double() - other.double())[both].abs().max()) if bool(both.any()) else 0.0
