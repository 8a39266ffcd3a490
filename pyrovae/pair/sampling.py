"""Draws of x from a model alone."""

from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ..errors import InvalidInputError, check_int
from .execution import ModelOrGuide, evaluation_mode, isolated_parameters, trace
from .sites import density_sites


def sample(model: ModelOrGuide, num_samples: int, like: Tensor, *, mean: bool = False) -> Tensor:
    """Draw x from the model alone.

    Draws come from torch's global generator.

    Args:
        model: The model, a function of x.
        num_samples: How many draws.
        like: Points (N, ...) that give x its shape, type and device.
        mean: Return E[x|z] at as many draws of z, in place of draws of x.

    Returns:
        The draws (num_samples, *like.shape[1:]).

    Raises:
        InvalidInputError: The model observes nothing of x's shape.

    Example:
        >>> import pyrovae, torch
        >>> model, guide = pyrovae.load("ppca")(4, latent=2)
        >>> pyrovae.sample(model, 3, torch.zeros(1, 4)).shape
        torch.Size([3, 4])
    """
    check_int("num_samples", num_samples, 1)
    drawn = draw_observed(model, num_samples, like)
    for site in drawn:
        if site["value"].shape == (num_samples, *like.shape[1:]):
            return site["fn"].mean if mean else site["value"]
    shapes = ", ".join(f"{tuple(site['value'].shape[1:])} at '{site['name']}'" for site in drawn)
    raise InvalidInputError(
        f"The model draws nothing of x's shape {tuple(like.shape[1:])}, but {shapes or 'nothing at all'}: let it observe x itself, "
        "with obs=x; where a part of x is given, draw the rest by the model's own method (model.draw(c), if it has one)."
    )


def draw_observed(model: ModelOrGuide, num_samples: int, like: Tensor) -> list[dict[str, Any]]:
    """Return the sites that the model observes, each with a draw of its own as its value, for `num_samples` points."""
    blank = like[:1].expand(num_samples, *like.shape[1:])
    with isolated_parameters(model), evaluation_mode(model), torch.no_grad():
        run = trace("model", poutine.uncondition(model), blank)
    return [site for site in density_sites(run) if site["infer"].get("was_observed")]
