"""The parts that a model adds up: the classes of a mixture, or the directions of a linear model."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.latent_rows import Layout, Rows, decode
from ..pair.sites import density_sites
from ..pair.structure import Latent, Structure, inspect_pair
from ..posterior.latent_densities import class_probabilities
from ..utils.random import fork_rng
from .latent_space import LatentSpace

SAME = 1e-3  # relative difference up to which a decoder counts as linear


@dataclass(frozen=True)
class Components:
    """Mixture components, the most probable first, or directions, the longest first. Tensors on the CPU."""

    kind: str  # "mixture" or "directions"
    names: tuple[str, ...]  # (K,)
    centre: Tensor  # (D,), E[x] at the prior's mean for directions; the mixture's mean
    means: Tensor  # (K, D): E[x|class], or E[x|z = e_j] − E[x|z = 0]
    spreads: Tensor | None  # (K, D), standard deviation of x in each class, where it is known
    weights: Tensor  # (K,): p(class), or the share of the directions' total squared length
    responsibilities: Tensor | None  # (N, K), p(class|x) of the points


def take_apart(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> Components:
    """Take a mixture apart into its classes, or a linear model into its directions.

    The parts are seen through the decoder: E[x|z] for each class, and E[x|z = e_j] − E[x|z = 0] for each direction. Where
    E[x|z] = Wz + μ, that is column j of W. Continuous latents of a mixture stay at 0.

    Args:
        model: The model.
        guide: Its guide.
        x: Points (N, D), whose responsibilities are computed.

    Returns:
        `Components`.

    Raises:
        InvalidInputError: The model is neither a mixture with one discrete latent nor linear.
    """
    structure = inspect_pair(model, guide, x, scored=False)
    discrete = [latent for latent in structure.latents if latent.discrete and not latent.summed_out]
    if len(discrete) == 1 and discrete[0].classes is not None:
        return _classes(model, guide, x, structure, discrete[0])
    if discrete:
        raise InvalidInputError("The model's discrete latents have too many values to be shown one by one.")
    return _directions(model, guide, x)


def _classes(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure, latent: Latent) -> Components:
    layout, K = Layout(structure), latent.classes
    assert K is not None
    rows: Rows = {}
    for other in structure.latents:
        value = layout.rows(other.name, structure.guide_trace.nodes[other.name]["value"].unsqueeze(0))[0, :1]
        rows[other.name] = torch.zeros_like(value).expand(K, *value.shape[1:])
    rows[latent.name] = torch.arange(K, device=x.device).reshape(rows[latent.name].shape)
    with torch.no_grad(), evaluation_mode(model, guide), fork_rng(x.device, 0):
        means = decode(model, rows, x, structure).flatten(1).cpu()
    prior = class_probabilities(structure.model_trace.nodes[latent.name]["fn"])
    posterior = class_probabilities(structure.guide_trace.nodes[latent.name]["fn"])
    assert prior is not None
    weights = prior.detach().reshape(-1, K)[0].cpu()
    order = weights.argsort(descending=True)
    return Components(
        kind="mixture",
        names=tuple(f"{latent.name} = {k}" for k in order.tolist()),
        centre=weights @ means,
        means=means[order],
        spreads=_spreads(structure, K, order),
        weights=weights[order],
        responsibilities=None if posterior is None else posterior.detach().reshape(len(x), K).cpu()[:, order],
    )


def _spreads(structure: Structure, K: int, order: Tensor) -> Tensor | None:
    """The standard deviations of a mixture whose observed site picks one of K densities of a family."""
    for site in density_sites(structure.model_trace):
        family = getattr(site["fn"], "family", None)
        if site["is_observed"] and family is not None:
            try:
                variance = family.variance
            except (NotImplementedError, AttributeError):
                return None
            if variance.shape[:1] == (K,):
                return variance.detach().sqrt().cpu()[order]
    return None


def _directions(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> Components:
    space = LatentSpace(model, guide, x)
    steps = torch.eye(space.size, device=x.device)
    with torch.no_grad():
        centre, one, far = (
            space.decode(torch.cat([torch.zeros_like(steps[:1]), steps, -2 * steps]))
            .flatten(1)
            .split([1, space.size, space.size])
        )
    directions = one - centre
    if float((far - centre + 2 * directions).abs().max()) > SAME * float(directions.abs().max()):
        raise InvalidInputError(
            "The decoder is not linear, so it has no directions that are the same everywhere: look at traversals instead."
        )
    lengths = directions.double().square().sum(-1).cpu()
    order = lengths.argsort(descending=True)
    return Components(
        kind="directions",
        names=tuple(space.names[j] for j in order.tolist()),
        centre=centre[0].cpu(),
        means=directions.cpu()[order],
        spreads=None,
        weights=(lengths / lengths.sum())[order],
        responsibilities=None,
    )
