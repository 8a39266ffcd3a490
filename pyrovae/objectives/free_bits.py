"""Free bits: a KL that costs nothing below a floor, so that latents are not given up early in training."""

import functools
import math
from typing import Any

import torch
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor
from torch.distributions import kl_divergence

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide, trace
from ..pair.sites import density_sites, point_dim, strip_independent
from ..pair.structure import Structure
from ..utils.distributed import ProcessGroup
from ..utils.random import fork_rng
from .base import LossOf, Objective, Terms, check_number
from .elbo import default_objective
from .log_densities import draw, weights_of
from .shared_batches import current_share


class FreeBits(Objective):
    """E_q[log p(x|z)] − Σ_j max(λ, KL_j): below λ nats, the KL of group j costs nothing more. It is the ELBO at λ = 0.

    KL_j is the mean over the points of the batch. A group is one number of a latent where its KL is known in closed
    form. That needs a factorised Gaussian prior and guide, drawn in one order. Otherwise the one group is all of z,
    and its KL is estimated from one draw per point.

    Args:
        nats: λ, for each group.

    Several processes that share a batch tell each other their sums of KL_j.

    References:
        Kingma et al. (2016). Improved variational inference with inverse autoregressive flow. Appendix C.
    """

    communicates = True

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

    def bind(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure) -> LossOf | str:
        self.check(structure)
        if ProcessGroup().count == 1:
            return functools.partial(self.batch, structure=structure)
        with torch.no_grad(), fork_rng(x.device):
            num_groups = _parts(model, guide, x, structure)[3].shape[1]
        return functools.partial(self._shared, structure=structure, num_groups=num_groups)

    def _shared(
        self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure, num_groups: int
    ) -> Terms:
        """This process's part of the loss of a batch that several share."""
        share, group = current_share(), ProcessGroup()
        assert share is not None
        try:
            reconstruction, scale, beta, kl = _parts(model, guide, x, structure)
        except (RuntimeError, ValueError):  # the others wait for this one's part
            group.sum(x.new_full((num_groups,), math.nan))
            raise
        own = kl.detach().sum(0)
        means = group.sum(own.clone() if share.counts else torch.zeros_like(own)) / share.size
        counted = torch.where(means >= self.nats, kl.sum(0), self.nats * len(x)) if self.nats else kl.sum(0)
        loss = beta * counted.sum() - reconstruction
        return Terms(*(scale * part for part in (loss, reconstruction, beta * kl.sum())))

    def batch(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure) -> Terms:
        reconstruction, scale, beta, kl = _parts(model, guide, x, structure)
        groups = kl.mean(0)  # (groups,)
        counted = groups.clamp(min=self.nats) if self.nats else groups  # an estimate may be below 0, a KL is not
        loss = len(x) * beta * counted.sum() - reconstruction
        return Terms(*(scale * part for part in (loss, reconstruction, len(x) * beta * groups.sum())))

    def hyperparameters(self) -> tuple[float, ...]:
        return (self.nats,)


def _parts(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure
) -> tuple[Tensor, Any, Any, Tensor]:
    """log p(x|z) of the batch at one draw, its scale, the KL's weight, and KL (B, groups)."""
    if _by_number(structure):
        return _closed_form(model, guide, x)
    draws = draw(model, guide, x, 1, structure.max_plate_nesting)
    return draws.log_likelihood.sum(), draws.scale, draws.beta, (draws.log_q - draws.log_prior).reshape(-1, 1)


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
