"""Free parameters, and Schwarz's criterion, of models with an exact log p(x)."""

import math
from typing import Any

from torch import Tensor, nn


def num_free_parameters(model: Any) -> int | None:
    """The degrees of freedom of the model's density: its trained parameters, less its `num_redundant_parameters`.

    A model has that attribute where parameters can move without a change of p(x), such as W of PPCA under a rotation. None for
    a model without an exact log p(x), or one that is no module.
    """
    if not (isinstance(model, nn.Module) and hasattr(model, "log_prob")):
        return None
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return trained - int(getattr(model, "num_redundant_parameters", 0))


def bic(log_likelihood: Tensor, num_parameters: int) -> float:
    """−2 Σ_n log p(x_n) + d log N of the training points, nats: lower is better (Schwarz 1978).

    Args:
        log_likelihood: Exact log p(x_n) of the N points that the model was trained on, (N,), nats.
        num_parameters: d, the free parameters.
    """
    return -2 * float(log_likelihood.double().sum()) + num_parameters * math.log(len(log_likelihood))
