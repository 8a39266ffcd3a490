"""The exact log p(x), for models that know it."""

import torch
from torch import Tensor

from ..errors import InvalidInputError, user_code_errors
from ..pair.execution import ModelOrGuide

CHUNK_POINTS = 1024  # given to model.log_prob at once


def exact_log_likelihood(model: ModelOrGuide, x: Tensor) -> Tensor | None:
    """The model's own `log_prob(x)`, (N,) on the CPU in double precision, nats; None for a model without one.

    Raises `InvalidInputError` where `log_prob` fails, or is not one number for each point.
    """
    if not hasattr(model, "log_prob"):
        return None
    with user_code_errors("model.log_prob(x)"):
        exact = torch.cat([model.log_prob(points) for points in x.split(CHUNK_POINTS)]).double().cpu()
    if exact.shape != (len(x),):
        raise InvalidInputError(
            f"model.log_prob(x) has shape {tuple(exact.shape)}: it must be one number per point, ({len(x)},)."
        )
    return exact
