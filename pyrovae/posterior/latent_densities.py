"""Closed forms of one latent's q(z|x) and p(z): the KL of each of its numbers, the probabilities of its classes."""

from typing import Any

import torch
from pyro.distributions import Delta
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal, MultivariateNormal, Normal, kl_divergence

from ..distributions.normal import PrecisionNormal
from ..pair.sites import strip_independent

JOINT = (MultivariateNormal, LowRankMultivariateNormal, PrecisionNormal)  # normals with a covariance


def factors(fn: Any) -> tuple[Any, Tensor | float] | None:
    """The numbers of one draw as if they were independent, and KL(q ‖ Π_j q_j) in nats, what that leaves out.

    The distribution has a batch dimension for every number. None where there are no marginals in closed form.
    """
    if isinstance(fn, JOINT):
        marginals = Normal(fn.mean, fn.variance.sqrt())
        return marginals, marginals.entropy().sum(-1) - fn.entropy()
    fn = strip_independent(fn)
    return None if fn.event_shape else (fn, 0.0)


def unit_kl(q: Any, p: Any) -> Tensor | None:
    """KL(q(z_j|x) ‖ p(z_j)) of every number of a latent whose prior factorises: (*batch, *event), nats, or None.

    q need not factorise: these are its marginals' KL, and KL(q ‖ p) = Σ_j KL(q_j ‖ p_j) + KL(q ‖ Π_j q_j).
    """
    parts, prior = factors(q), factors(p)
    if parts is None or prior is None or isinstance(p, JOINT):
        return None
    return _closed_form(parts[0], prior[0])


def site_kl(q: Any, p: Any) -> Tensor | None:
    """KL(q ‖ p) of one site, (*batch), nats; None where it has no closed form."""
    kl = unit_kl(q, p)
    if kl is None:
        return _closed_form(q, p)
    parts = factors(q)
    assert parts is not None
    dims = tuple(range(-q.event_dim, 0))
    return (kl.sum(dims) if dims else kl) + parts[1]


def _closed_form(q: Any, p: Any) -> Tensor | None:
    if isinstance(q, Delta):  # Pyro registers −log p at its point, without the mass's own density
        return None
    shape = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    try:
        return kl_divergence(q.expand(shape), p.expand(shape))  # some of torch's do not broadcast
    except NotImplementedError:
        return None


def class_probabilities(fn: Any) -> Tensor | None:
    """p(z = k) for every class k of a discrete latent, (*batch, *event, K); None for one without a list of classes."""
    fn = strip_independent(fn)
    if not fn.has_enumerate_support:
        return None
    values = fn.enumerate_support(expand=False)  # (K, 1, ..., event)
    return fn.log_prob(values).exp().movedim(0, -1)
