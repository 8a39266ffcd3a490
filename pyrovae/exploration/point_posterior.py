"""q(z|x) beside the true posterior p(z|x) of one point: on a grid where z has one or two numbers, else by draws."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..posterior.joint_density import Joint
from ..posterior.posterior_sampling import sample_posterior
from .grids import check_row
from .latent_space import LatentSpace

GRID_POINTS = {1: 2001, 2: 161}  # on each axis, by the number of latents
DRAWS = 1000
WIDTHS = 5.0  # standard deviations on each side of the grid


@dataclass(frozen=True)
class GridPosterior:
    """Log-densities on a grid of one or two latents, nats. Tensors on the CPU, double precision."""

    row: int
    names: tuple[str, ...]
    axes: tuple[Tensor, ...]  # the values of each latent
    log_posterior: Tensor  # (up, across) or (across,): log p(z|x), normalised on the grid
    log_guide: Tensor  # the same of q(z|x)
    log_evidence: float  # log p(x) by the sum over the grid

    @property
    def cell(self) -> float:
        """The measure of a cell of the grid."""
        return math.prod(float(axis[1] - axis[0]) for axis in self.axes)

    @property
    def kl(self) -> float:
        """KL(q(z|x) ‖ p(z|x)) by the sum over the grid, which is log p(x) − ELBO at this point: nats."""
        q = self.log_guide.exp()
        return float((q * (self.log_guide - self.log_posterior)).nan_to_num(0.0).sum() * self.cell)


@dataclass(frozen=True)
class DrawnPosterior:
    """Draws of two latents of many, of equal weight. Tensors on the CPU."""

    row: int
    names: tuple[str, ...]
    posterior: Tensor  # (K, 2), resampled draws of p(z|x)
    guide: Tensor  # (K, 2), draws of q(z|x)
    ess: float  # effective sample size of the posterior's draws
    size: int  # how many latents the pair has


def posterior_of_point(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, row: int, seed: int = 0
) -> GridPosterior | DrawnPosterior:
    """Compute q(z|x) and p(z|x) of one point.

    With one or two latents both densities are computed on a grid that covers five standard deviations of each. With more, both are
    drawn from: p(z|x) by importance sampling about its modes.

    Args:
        model: The model.
        guide: Its guide.
        x: Points (N, D).
        row: Which of them.
        seed: Of the draws.

    Returns:
        A `GridPosterior` for one or two latents, else a `DrawnPosterior` of the two most informative.

    Raises:
        InvalidInputError: x has no such row, or the pair has no density of one continuous latent.
    """
    check_row(row, x)
    space = LatentSpace(model, guide, x)
    if len(space.shapes) != 1:
        raise InvalidInputError(f"This picture needs one latent vector, and this pair has {', '.join(space.shapes)}.")
    (name,) = space.shapes
    point = x[row : row + 1]
    q = space.draw(point, DRAWS, seed)[:, 0].cpu()
    if bool((q == q[0]).all()):
        raise InvalidInputError(
            "The guide is a point and not a distribution: there is no q(z|x) to hold beside p(z|x)."
        )
    fitted = sample_posterior(model, guide, point, DRAWS, seed)
    if space.size > 2:
        chosen = space.order(x)[:2]
        posterior = fitted.draws(name).reshape(DRAWS, -1)[:, chosen]
        return DrawnPosterior(
            row, tuple(space.names[j] for j in chosen), posterior, q[:, chosen], float(fitted.ess[0]), space.size
        )
    p = fitted.draws(name).reshape(DRAWS, -1).double()
    axes = tuple(_axis(values, GRID_POINTS[space.size]) for values in zip(q.double().mT, p.mT, strict=True))
    return _on_grid(Joint(model, guide, point), space, row, axes)


def _axis(draws: tuple[Tensor, Tensor], count: int) -> Tensor:
    low = min(float(values.mean() - WIDTHS * values.std()) for values in draws)
    high = max(float(values.mean() + WIDTHS * values.std()) for values in draws)
    return torch.linspace(low, high, count, dtype=torch.float64)


def _on_grid(joint: Joint, space: LatentSpace, row: int, axes: tuple[Tensor, ...]) -> GridPosterior:
    places = torch.stack(torch.meshgrid(*axes, indexing="xy"), dim=-1)  # (up, across, 2), or (across, 1)
    u = places.reshape(-1, 1, len(axes)).to(joint.x)
    with torch.no_grad(), evaluation_mode(space.model, space.guide):
        log_q, log_p = joint.log_guide_and_p(u)
    shape, cell = places.shape[:-1], math.prod(float(axis[1] - axis[0]) for axis in axes)
    log_q, log_p = (values.double().cpu().reshape(shape) for values in (log_q, log_p))
    evidence = float(log_p.flatten().logsumexp(0)) + math.log(cell)
    return GridPosterior(
        row=row,
        names=space.names,
        axes=axes,
        log_posterior=log_p - evidence,
        log_guide=log_q - log_q.flatten().logsumexp(0) - math.log(cell),
        log_evidence=evidence,
    )
