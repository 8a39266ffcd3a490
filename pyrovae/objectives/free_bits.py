"""Free bits: a KL that costs nothing below a floor, so that latents are not given up early in training."""

from typing import Any

import torch
import torch.distributed as group
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor
from torch.distributions import kl_divergence

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide, trace
from ..pair.sites import density_sites, point_dim, strip_independent
from ..pair.structure import Structure
from .base import Objective, Terms, check_number
from .elbo import default_objective
from .log_densities import draw, weights_of


class FreeBits(Objective):
    """E_q[log p(x|z)] − Σ_j max(λ, KL_j): below λ nats, the KL of group j costs nothing more. It is the ELBO at λ = 0.

    KL_j is the mean over the points of the batch. A group is one number of a latent where its KL is known in closed
    form. That needs a factorised Gaussian prior and guide, drawn in one order. Otherwise the one group is all of z,
    and its KL is estimated from one draw per point.

    Args:
        nats: λ, for each group.

    Raises:
        InvalidInputError: Training runs in several processes. Each would know the KL of its own points only.

    References:
        Kingma et al. (2016). Improved variational inference with inverse autoregressive flow. Appendix C.
    """

    def __init__(self, nats: float):
        super().__init__()
        self.nats = check_number("nats", nats)

    def check(self, structure: Structure) -> None:
        super().check(structure)
        if not structure.latents:
            raise InvalidInputError(
                f"{self!r} is about the KL of latents, and the pair has none: train it without an objective."
            )
        for site in density_sites(structure.guide_trace):
            if not site["fn"].has_rsample:
                raise InvalidInputError(
                    f"{self!r} takes the gradient of a KL, and latent '{site['name']}' is drawn without reparameterisation: sum it "
                    "out, or train with kl_warmup_fraction."
                )
        if group.is_available() and group.is_initialized() and group.get_world_size() > 1:
            raise InvalidInputError(
                f"{self!r} needs the KL of the whole batch: train in one process, or with kl_warmup_fraction."
            )

    def batch(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure) -> Terms:
        if _by_number(structure):
            reconstruction, scale, beta, kl = _closed_form(model, guide, x)
        else:
            draws = draw(model, guide, x, 1, structure.max_plate_nesting)
            reconstruction, scale, beta = draws.log_likelihood.sum(), draws.scale, draws.beta
            kl = (draws.log_q - draws.log_prior).reshape(-1, 1)
        groups = kl.mean(0)  # (groups,)
        counted = groups.clamp(min=self.nats) if self.nats else groups  # an estimate may be below 0, a KL is not
        loss = len(x) * beta * counted.sum() - reconstruction
        return Terms(*(scale * part for part in (loss, reconstruction, len(x) * beta * groups.sum())))

    def hyperparameters(self) -> tuple[float, ...]:
        return (self.nats,)


def _by_number(structure: Structure) -> bool:
    masked = any(site["mask"] is not None for site in density_sites(structure.model_trace))
    return isinstance(default_objective(structure), TraceMeanField_ELBO) and not masked


def _closed_form(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> tuple[Tensor, Any, Any, Tensor]:
    """log p(x|z) of the batch at one draw, its scale, the KL's weight, and KL (B, groups) in closed form."""
    q = trace("guide", guide, x)
    p = trace("model", poutine.replay(model, trace=q), x)
    scale, beta = weights_of(p, q)
    seen = [site["fn"].log_prob(site["value"]).sum() for site in density_sites(p) if site["is_observed"]]
    parts = []
    for site in density_sites(p):
        if not site["is_observed"]:
            kl = kl_divergence(strip_independent(q.nodes[site["name"]]["fn"]), strip_independent(site["fn"]))
            axis = kl.dim() - site["fn"].event_dim + point_dim(site)
            parts.append(kl.movedim(axis, 0).reshape(len(x), -1))
    return torch.stack(seen).sum(), scale, beta, torch.cat(parts, dim=1)
