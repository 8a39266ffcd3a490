"""The log-weights that objectives are made of: `log_weights`, with gradients on and nothing read on the host."""

import contextlib
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide
from ..pair.importance_weights import guide_density, latent_density, model_density, run_guide, run_model
from ..pair.sites import density_sites
from .base import Terms

__all__: tuple[str, ...] = ()  # the objectives use this file; it offers none


class Draws(NamedTuple):
    """Log-densities (K, B) at K draws of z for each of B points, in nats, no scale in them."""

    log_joint: Tensor  # log p(x, z)
    log_prior: Tensor  # log p(z)
    log_q: Tensor  # log q(z|x)
    scale: Any  # of a data plate that stands for a subsample: it belongs outside every logarithm of a sum
    beta: Any  # the KL's weight, 1 but for a warm-up

    @property
    def log_likelihood(self) -> Tensor:
        """log p(x|z)."""
        return self.log_joint - self.log_prior

    @property
    def log_p(self) -> Tensor:
        """log p(x|z) + β log p(z)."""
        return self.log_joint if _is_one(self.beta) else self.log_likelihood + self.beta * self.log_prior

    @property
    def log_w(self) -> Tensor:
        """log p(x|z) + β [log p(z) − log q(z|x)]: with β = 1, log w."""
        return self.log_p - self.beta * self.log_q

    def terms(self, loss: Tensor) -> Terms:
        """Return a loss, summed over points, with the parts of the ELBO at the same draws."""
        kl = self.beta * (self.log_q - self.log_prior)
        return Terms(*(self.scale * part for part in (loss, self.log_likelihood.mean(0).sum(), kl.mean(0).sum())))


class detach_draws(Messenger):
    """Detach the draws of a guide from its parameters.

    `drawn` has the draws as they were. `detached` has the equal values that are used from there on. Both are by site,
    in the order of the guide.
    """

    def __init__(self) -> None:
        super().__init__()
        self.drawn: dict[str, Tensor] = {}
        self.detached: dict[str, Tensor] = {}

    def _pyro_post_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or msg["is_observed"]:
            return
        value = msg["value"]
        detached = value.detach()
        if value.is_floating_point() and torch.is_grad_enabled():
            detached.requires_grad_()
        self.drawn[msg["name"]], self.detached[msg["name"]] = value, detached
        msg["value"] = detached


def draw(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    num_samples: int,
    max_plate_nesting: int,
    detached: detach_draws | None = None,
) -> Draws:
    """Draw z for each point K = `num_samples` times, and compute the log-densities of model and guide."""
    with detached or contextlib.nullcontext():
        q = run_guide(guide, x, num_samples, max_plate_nesting)
    p = run_model(model, x, q, num_samples, max_plate_nesting)
    return Draws(
        model_density(p, len(x), num_samples, max_plate_nesting, check=False),
        latent_density(p, x, num_samples, max_plate_nesting),
        guide_density(q, x, num_samples, max_plate_nesting, check=False),
        *weights_of(p, q),
    )


def weights_of(p: poutine.Trace, q: poutine.Trace) -> tuple[Any, Any]:
    """The scale of a pair's data plate, and what its latents count beside: `inspect` has passed a pair with no other scales."""
    scale = next(site["scale"] for site in density_sites(p) if site["is_observed"])
    latent = next((site["scale"] for site in density_sites(q)), scale)
    return scale, 1.0 if latent is scale else latent / scale


def _is_one(beta: Any) -> bool:
    return not isinstance(beta, Tensor) and beta == 1.0


def sleep_phase_log_q(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, max_plate_nesting: int) -> Tensor:
    """log q(z̃|x̃) (1, B) of the model's own draws z̃, x̃ ~ p(x, z), as many as x has points; nothing flows back into the model."""
    with torch.no_grad():
        p = poutine.trace(poutine.uncondition(model)).get_trace(x)
    dreamt = (site["value"] for site in density_sites(p) if site["infer"].get("was_observed"))
    seen = next((value for value in dreamt if value.shape == x.shape), None)
    if seen is None:
        raise InvalidInputError(
            f"The model dreams nothing of x's shape {tuple(x.shape)}, which the guide would learn from: let it observe x itself, or give "
            "WakeSleep insomnia=1, which asks for no dreams."
        )
    return guide_density(
        poutine.trace(poutine.replay(guide, trace=p)).get_trace(seen), x, 1, max_plate_nesting, check=False
    )
