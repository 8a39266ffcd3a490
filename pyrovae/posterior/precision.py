"""Whether single precision resolves a pair's density; where it does not, a copy of the pair in double precision."""

import logging

import torch
from torch import Tensor

from ..pair.double_precision import in_double_precision, largest_difference
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..utils.random import fork_rng
from .joint_density import Joint

MAX_ROUNDING = 0.01  # nats
CHECKED_POINTS = 256

log = logging.getLogger("pyrovae")


def in_sufficient_precision(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, checked: int
) -> tuple[ModelOrGuide, ModelOrGuide, Tensor]:
    """The pair and x as they are, or in double precision.

    Double precision is chosen, with a warning, where single precision changes log p(x, u) by more than `MAX_ROUNDING`. That is
    tried at draws of the guide for the first `checked` points.
    """
    if x.dtype != torch.float32 or (copies := in_double_precision(model, guide)) is None:
        return model, guide, x
    some = x[:checked]
    with evaluation_mode(model, guide, *copies), torch.no_grad(), fork_rng(x.device, 0):
        joint = Joint(model, guide, some)
        u = joint.draw_guide(8)
        single = joint.log_p(u)
        try:
            double = Joint(*copies, some.double()).log_p(u.double())
        except Exception:  # the model makes numbers of its own in single precision, and cannot mix the two
            return model, guide, x
    rounding = largest_difference(single, double)
    if rounding <= MAX_ROUNDING:
        return model, guide, x
    log.warning(
        "log p(x, z) in single precision is off by up to %.2g nats, so all is computed in double precision; "
        "model.double(), guide.double() and x.double() say so themselves.",
        rounding,
    )
    return *copies, x.double()
