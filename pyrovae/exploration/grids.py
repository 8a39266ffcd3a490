"""What the decoder makes of a latent space: one or two numbers of z vary, the others stay."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidInputError, check_int
from ..pair.execution import ModelOrGuide
from .latent_space import LatentSpace

LOWEST = 0.02  # probability of the first value; the last has 1 − LOWEST


@dataclass(frozen=True)
class Manifold:
    """Decoded x on a grid of two latents; of a pair with one latent, a single row."""

    names: tuple[str, ...]  # of the latents that vary: across, then up
    across: Tensor  # (C,), values of the first
    up: Tensor  # (R,), values of the second, the highest first; (1,) where there is one latent
    decoded: Tensor  # (R, C, D), E[x|z]
    source: str  # where the values are from
    fixed: int  # how many other latents stay at the prior's median


@dataclass(frozen=True)
class Traversals:
    """Decoded x along one latent at a time, the most informative latent first."""

    names: tuple[str, ...]  # (L,)
    kl: Tensor  # (L,), KL(q(z_j|x) ‖ p(z_j)) of each, nats; NaN where it has no closed form
    values: Tensor  # (L, T)
    decoded: Tensor  # (L, T, D), E[x|z]
    source: str  # where the values are from
    start: int | None  # the point whose encoding the other latents keep; None: the prior's median


def manifold(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, size: int = 20) -> Manifold:
    """Decode a grid of two latents, spaced by the prior's inverse distribution function.

    Equal steps have equal probability under the prior (Kingma & Welling 2014, figure 4). Where the pair has more than two latents, the
    two most informative vary, and the others stay at the prior's median.

    Args:
        model: The model.
        guide: Its guide.
        x: Points (N, D), which say which latents are informative.
        size: Values of each latent.

    Returns:
        A `Manifold` with size × size decoded x.

    Raises:
        InvalidInputError: The pair draws no continuous latent.
    """
    check_int("size", size, 2)
    space = LatentSpace(model, guide, x)
    order = space.order(x)[:2]
    values, source = space.quantiles(torch.linspace(LOWEST, 1 - LOWEST, size))
    middle = space.quantiles(torch.tensor([0.5]))[0][0]
    rows = size if len(order) == 2 else 1
    z = middle.repeat(rows, size, 1)
    z[..., order[0]] = values[:, order[0]]
    if len(order) == 2:
        z[..., order[1]] = values[:, order[1]].flip(0)[:, None]
    with torch.no_grad():
        decoded = space.decode(z.flatten(0, 1).to(x.device)).cpu()
    return Manifold(
        names=tuple(space.names[j] for j in order),
        across=z[0, :, order[0]],
        up=z[:, 0, order[1]] if len(order) == 2 else z.new_zeros(1),
        decoded=decoded.reshape(rows, size, -1),
        source=source,
        fixed=space.size - len(order),
    )


def traverse(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, start: int | None = None, latents: int = 10, steps: int = 11
) -> Traversals:
    """Decode x while one latent at a time goes through the prior's quantiles.

    Args:
        model: The model.
        guide: Its guide.
        x: Points (N, D), which say which latents are informative.
        start: The row of x whose encoding the other latents keep; None: they stay at the prior's median.
        latents: How many latents, the most informative first.
        steps: Values of each.

    Returns:
        `Traversals`, a row for each latent.

    Raises:
        InvalidInputError: The pair draws no continuous latent, or x has no row `start`.
    """
    check_int("latents", latents, 1)
    check_int("steps", steps, 2)
    space = LatentSpace(model, guide, x)
    order = space.order(x)[:latents]
    values, source = space.quantiles(torch.linspace(LOWEST, 1 - LOWEST, steps))
    if start is None:
        origin = space.quantiles(torch.tensor([0.5]))[0][0]
    else:
        origin = space.encode(x[check_row(start, x)][None])[0].cpu()
    z = origin.repeat(len(order), steps, 1)
    for row, j in enumerate(order):
        z[row, :, j] = values[:, j]
    with torch.no_grad():
        decoded = space.decode(z.flatten(0, 1).to(x.device)).cpu()
    return Traversals(
        names=tuple(space.names[j] for j in order),
        kl=space.kl()[order],
        values=values[:, order].mT,
        decoded=decoded.reshape(len(order), steps, -1),
        source=source,
        start=start,
    )


def check_row(index: int, x: Tensor) -> int:
    """A row of x, counted from 0."""
    if not isinstance(index, int) or not 0 <= index < len(x):
        raise InvalidInputError(f"There is no point {index}: give a number from 0 to {len(x) - 1}.")
    return index
