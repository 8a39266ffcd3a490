"""Points through the guide and back through the model: what the latents keep of x."""

from dataclasses import dataclass

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide, evaluation_mode, isolated_parameters, trace
from ..pair.latent_rows import Layout
from ..pair.parameters import is_per_point
from ..pair.sites import SAMPLES, density_sites, mean_or_none
from ..pair.structure import Structure, inspect_pair
from ..utils.random import fork_rng
from .latent_space import CHUNK_POINTS, LatentSpace

CLASS_DRAWS = 100  # of the guide, where latents are discrete


@dataclass(frozen=True)
class Reconstruction:
    """Points and what the pair makes of them: tensors on the CPU."""

    x: Tensor  # (N, D)
    reconstructed: Tensor  # (N, D), E[x|z] at z = E[z|x], or its mean over draws of discrete latents
    from_draws: bool  # the latter

    @property
    def difference(self) -> Tensor:
        """x − x̂: (N, D)."""
        return self.x - self.reconstructed

    @property
    def squared_error(self) -> Tensor:
        """Mean over the numbers of each point of (x − x̂)²: (N,)."""
        return self.difference.double().square().mean(-1)

    @property
    def mean_squared_error(self) -> float:
        """Mean over points and numbers of (x − x̂)²: for images, per pixel."""
        return float(self.squared_error.mean())

    @property
    def explained_variance(self) -> float:
        """1 − Σ(x − x̂)² / Σ(x − x̄)², with x̄ the mean of these points: 1 for a perfect reconstruction, 0 for that mean."""
        x = self.x.double()
        return 1 - float(self.difference.double().square().sum() / (x - x.mean(0)).square().sum())


def reconstruct(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, seed: int = 0) -> Reconstruction:
    """Encode points by the guide and decode them by the model.

    x̂ = E[x|z] at z = E_q[z|x]. Where a latent is discrete, x̂ is the mean of E[x|z] over draws z ~ q(z|x).

    Args:
        model: The model.
        guide: Its guide.
        x: The points (N, D).
        seed: Of the draws, where there are any.

    Returns:
        A `Reconstruction`, with the error of each point.

    Raises:
        InvalidInputError: The model has no latent, or observes nothing of x's shape.

    Example:
        pyrovae.exploration.reconstruct(model, guide, data.test).mean_squared_error
    """
    whole = is_per_point(guide, x)
    structure = inspect_pair(model, guide, x if whole else x[:2], scored=False)
    drawn = [latent for latent in structure.latents if not latent.summed_out]
    if not drawn:
        raise InvalidInputError("The model draws no latent: there is nothing between x and its reconstruction.")
    from_draws = any(latent.discrete for latent in drawn)
    if from_draws:
        with (
            torch.no_grad(),
            evaluation_mode(model, guide),
            isolated_parameters(model, guide),
            fork_rng(x.device, seed),
        ):
            parts = (x,) if whole else x.split(CHUNK_POINTS)
            means = torch.cat([_mean_over_draws(model, guide, part, structure) for part in parts])
    else:
        space = LatentSpace(model, guide, x)
        with torch.no_grad():
            means = space.decode(space.encode(x, seed))
    return Reconstruction(x.cpu(), means.cpu(), from_draws)


def _mean_over_draws(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure) -> Tensor:
    with pyro.plate(SAMPLES, CLASS_DRAWS, dim=-1 - structure.max_plate_nesting):
        q = trace("guide", guide, x)
        p = trace("model", poutine.uncondition(poutine.replay(model, trace=q)), x)
    for site in density_sites(p):
        if site["infer"].get("was_observed"):
            mean = mean_or_none(site["fn"])
            value = site["value"] if mean is None else mean
            values = Layout(structure).per_point(site["name"], value, CLASS_DRAWS, site["fn"].event_dim)
            if values.shape[2:] == x.flatten(1).shape[1:]:
                return values.mean(0).reshape(x.shape)
    raise InvalidInputError(
        f"The model draws nothing of x's shape {tuple(x.shape[1:])}: let it observe x itself, with obs=x."
    )
