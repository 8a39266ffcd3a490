"""New x from the model alone: the mean of each, and a draw of it."""

from dataclasses import dataclass

from torch import Tensor

from ..errors import check_int
from ..pair.execution import ModelOrGuide
from ..pair.sampling import draw_observed, sample
from ..utils.random import fork_rng


@dataclass(frozen=True)
class Generated:
    """Draws of the model. Row n of both belongs to one draw of the latents. Tensors on the CPU."""

    means: Tensor | None  # (n, D), E[x|z]; None where the likelihood has no mean
    draws: Tensor  # (n, D), x ~ p(x|z)
    noise: float  # root of the mean squared difference of the two; 0 where there are no means


def generate(model: ModelOrGuide, like: Tensor, num_samples: int = 24, seed: int = 0) -> Generated:
    """Draw z from the prior and x from p(x|z), and keep E[x|z] beside each.

    Args:
        model: The model.
        like: Points (N, D), which say the shape, type and device of x.
        num_samples: How many.
        seed: Of the draws.

    Returns:
        `Generated`.

    Raises:
        InvalidInputError: The model has no prior to draw from, or observes nothing of x's shape.
    """
    check_int("num_samples", num_samples, 1)
    with fork_rng(like.device, seed):
        sample(model, 1, like)  # refuses a model that draws nothing of x's shape
    with fork_rng(like.device, seed):
        site = next(s for s in draw_observed(model, num_samples, like) if s["value"].shape[1:] == like.shape[1:])
    draws = site["value"].cpu()
    try:
        means = site["fn"].mean.detach().cpu()
    except (NotImplementedError, AttributeError):
        return Generated(None, draws, 0.0)
    return Generated(means, draws, float((draws - means).double().square().mean().sqrt()))
