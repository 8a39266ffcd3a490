"""p(z) of two latents on a grid, where it is known: what the contours of a prior are drawn from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import MaskedDistribution
from torch import Tensor
from torch.distributions import Independent, MixtureSameFamily, Normal

from ..distributions.mixture_normal import MixtureNormal
from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide, evaluation_mode, isolated_parameters, trace
from ..pair.latent_rows import latents_only
from ..pair.sites import density_sites, strip_independent
from ..utils.random import fork_rng

GRID_POINTS = 201  # on each axis


@dataclass(frozen=True)
class PriorDensity:
    """log p(z) of two latents on a grid, the others integrated out."""

    latents: tuple[int, int]  # which two
    across: Tensor  # (G,), values of the first
    up: Tensor  # (G,), values of the second
    log_density: Tensor  # (G, G), a row for each value of the second

    def level(self, mass: float) -> float:
        """The log-density above which this share of the probability lies: the border of the smallest region that has it.

        The share that lies outside of the grid counts as lowest.
        """
        cell = float((self.across[1] - self.across[0]) * (self.up[1] - self.up[0]))
        return density_level(self.log_density, cell, mass)


def density_level(log_density: Tensor, cell: float, mass: float) -> float:
    """The log-density above which this share of the probability lies, for values on a grid of cells of one measure."""
    ordered = log_density.flatten().sort(descending=True).values
    inside = (ordered.exp() * cell).cumsum(0)
    return float(ordered[int((inside < mass).sum().clamp(max=len(ordered) - 1))])


def prior_density(
    model: ModelOrGuide, x: Tensor, latents: tuple[int, int], spans: tuple[tuple[float, float], tuple[float, float]]
) -> PriorDensity | None:
    """p(z) of two numbers of a model's one latent vector, on a grid over `spans`.

    Args:
        model: The model.
        x: Two points or more (N, ...).
        latents: Which two numbers of the vector.
        spans: The lowest and the highest value of each.

    Returns:
        None where the density of the two is not known, or not the same at all points. It is known of normals, of their mixtures,
        and of any distribution of two numbers.
    """
    try:
        with isolated_parameters(model), evaluation_mode(model), torch.no_grad(), fork_rng(x.device):
            sites = density_sites(trace("model", latents_only(model), x[:2]))
    except InvalidInputError:  # an autoencoder has no prior
        return None
    log_prob = _log_marginal(sites[0]["fn"], list(latents)) if len(sites) == 1 else None
    if log_prob is None:
        return None
    across, up = (torch.linspace(*span, GRID_POINTS, dtype=torch.float64) for span in spans)
    places = torch.stack(torch.meshgrid(across, up, indexing="xy"), dim=-1).reshape(-1, 2)
    with torch.no_grad(), isolated_parameters(model):
        at_points = log_prob(places.to(x)[:, None]).double().cpu()
    if at_points.dim() == 2 and not torch.allclose(at_points[:, 0], at_points[:, -1]):
        return None
    return PriorDensity(latents, across, up, at_points.reshape(GRID_POINTS, GRID_POINTS, -1)[..., 0])


def _log_marginal(fn: Any, columns: list[int]) -> Callable[[Tensor], Tensor] | None:
    """The log-density (M, N) of some numbers (M, 1, 2) of a vector. `fn` has a batch of N points."""
    if len(fn.event_shape) != 1:
        return None
    while isinstance(fn, MaskedDistribution):
        fn = fn.base_dist
    base = strip_independent(fn)
    if isinstance(base, Normal):
        return Independent(_columns(base, columns), 1).log_prob
    if isinstance(base, MixtureNormal):
        loc, scale = (value[..., columns] for value in (base.locs, base.coord_scale))
        return MixtureNormal(loc, scale, base.component_logits).log_prob
    if isinstance(base, MixtureSameFamily):
        component = strip_independent(base.component_distribution)
        if isinstance(component, Normal):
            return MixtureSameFamily(base.mixture_distribution, Independent(_columns(component, columns), 1)).log_prob
    if fn.event_shape[0] == 2:
        order = torch.as_tensor(columns).argsort()
        return lambda z: fn.log_prob(z[..., order])
    return None


def _columns(normal: Normal, columns: list[int]) -> Normal:
    return Normal(normal.loc[..., columns], normal.scale[..., columns])
