"""Where points lie in the latent space, and how wide their posteriors are."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide
from ..posterior.posterior_sampling import sample_posterior
from ..posterior.prior_grid import PriorDensity, prior_density
from .latent_space import LatentSpace

ELLIPSE_DRAWS = 2000  # of the guide, for its covariance
MARGIN = 0.05  # of the span, around all points


@dataclass(frozen=True)
class Encodings:
    """Two latents of each point, the most informative two of the pair. Tensors on the CPU."""

    names: tuple[str, ...]  # of the two; of one, where the pair has no more
    latents: tuple[int, ...]  # their numbers among all D
    size: int  # D
    means: Tensor  # (N, 2), E_q[z|x]; (N, 1) of a pair with one latent
    draws: Tensor  # (N, 2), a draw z ~ q(z|x) for each point
    deterministic: bool  # the guide is a point: draws are the means
    prior: PriorDensity | None  # p(z) of the two, where it is known


@dataclass(frozen=True)
class Ellipses:
    """Mean and covariance of two latents of some points, under the guide and under the true posterior."""

    rows: tuple[int, ...]  # of x
    guide_mean: Tensor  # (P, 2)
    guide_covariance: Tensor  # (P, 2, 2)
    posterior_mean: Tensor
    posterior_covariance: Tensor


def encode(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, seed: int = 0) -> Encodings:
    """Place points in the plane of the two most informative latents.

    Args:
        model: The model.
        guide: Its guide.
        x: Points (N, D).
        seed: Of the draws.

    Returns:
        `Encodings`: means and draws of q(z|x), and p(z) where it is known.

    Raises:
        InvalidInputError: The pair draws no continuous latent.
    """
    space = LatentSpace(model, guide, x)
    chosen = space.order(x)[:2]
    means, draws = space.encode(x, seed)[:, chosen].cpu(), space.draw(x, 1, seed)[0][:, chosen].cpu()
    prior = None
    if len(chosen) == 2 and len(space.shapes) == 1:
        prior = prior_density(model, x, (chosen[0], chosen[1]), _spans(torch.cat([means, draws])))
    return Encodings(
        names=tuple(space.names[j] for j in chosen),
        latents=tuple(chosen),
        size=space.size,
        means=means,
        draws=draws,
        deterministic=bool(torch.allclose(means, draws, rtol=1e-4, atol=1e-5)),
        prior=prior,
    )


def ellipses(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, rows: list[int], latents: tuple[int, ...], seed: int = 0
) -> Ellipses:
    """Mean and covariance of q(z|x) and of p(z|x), for some points.

    Those of q are of its draws. Those of the true posterior are estimated by importance sampling about its modes, as
    `pyrovae.posterior.sample_posterior` does.

    Args:
        model: The model.
        guide: Its guide.
        x: Points (N, D).
        rows: Which of them.
        latents: The numbers of two latents.
        seed: Of all draws.

    Returns:
        `Ellipses`, in the order of `rows`.

    Raises:
        InvalidInputError: The pair has several latent sites, or no density of its latent.
    """
    space = LatentSpace(model, guide, x)
    if len(space.shapes) != 1:
        raise InvalidInputError(f"Ellipses need one latent vector, and this pair has {', '.join(space.shapes)}.")
    (name,), points, chosen = space.shapes, x[rows], list(latents)
    draws = space.draw(points, ELLIPSE_DRAWS, seed)[..., chosen].double()
    centred = draws - draws.mean(0)
    exact = sample_posterior(model, guide, points, seed=seed)
    means = exact.means[name].reshape(len(points), -1)[:, chosen]
    covariances = exact.covariances[name].reshape(len(points), space.size, space.size)
    return Ellipses(
        rows=tuple(rows),
        guide_mean=draws.mean(0).cpu(),
        guide_covariance=(torch.einsum("snd,sne->nde", centred, centred) / (len(draws) - 1)).cpu(),
        posterior_mean=means,
        posterior_covariance=covariances[:, chosen][:, :, chosen],
    )


def _spans(points: Tensor) -> tuple[tuple[float, float], tuple[float, float]]:
    """Of all points and of three standard deviations of N(0, 1), with a margin."""
    spans = []
    for values in points.mT:
        low, high = min(float(values.min()), -3.0), max(float(values.max()), 3.0)
        spans.append((low - MARGIN * (high - low), high + MARGIN * (high - low)))
    return spans[0], spans[1]
