"""The ELBO, by Pyro's own objects: which of them suits a pair, and their losses as tensors, with no value read on the way.

Pyro's objects read their loss on the host and branch on it, so none of them can be recorded. For those that `fit` chooses the
loss is a tensor here, from the same traces: the same value and the same gradient.
"""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, TraceTailAdaptive_ELBO
from torch import Tensor
from torch.distributions import kl_divergence

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide
from ..pair.sites import PLATE, density_sites, strip_independent, sum_inner_plates
from ..pair.structure import Structure
from ..utils.random import fork_rng
from .base import HasObjective, HasTerms, LossOf, Objective, Terms


def resolve_objective(guide: ModelOrGuide, structure: Structure) -> Any:
    """Return the objective that the guide names by `guide.objective()`, or the default for the sites of the pair."""
    if isinstance(guide, HasObjective) and not isinstance(
        guide.objective, ELBO
    ):  # it may keep one that it had elsewhere
        return guide.objective()
    return default_objective(structure)


def default_objective(structure: Structure) -> ELBO:
    """The ELBO estimator with the least variance that the pair's sites allow.

    - a latent marked for enumeration: `TraceEnum_ELBO`, its expectation summed;
    - a discrete latent that is not: `TraceGraph_ELBO`, whose score-function terms leave out what cannot depend on it;
    - Gaussian latents with factorised guide and prior, drawn in one order: `TraceMeanField_ELBO`, KL(q‖p) in closed form;
    - any other: `Trace_ELBO`. With an exact guide its pathwise gradient has no variance, which a closed-form KL would spoil.
    """
    latents = structure.latents
    guide = structure.guide_trace.nodes
    enumerated = any(
        latent.summed_out or guide[latent.name]["infer"].get("enumerate") == "parallel" for latent in latents
    )
    if enumerated:
        return TraceEnum_ELBO(max_plate_nesting=structure.max_plate_nesting)
    if any(latent.discrete for latent in latents):
        return TraceGraph_ELBO()
    pairs = [(structure.model_trace.nodes[latent.name]["fn"], guide[latent.name]["fn"]) for latent in latents]
    order = [
        site["name"] for site in density_sites(structure.guide_trace)
    ]  # a guide that runs the other way has another KL
    if order == [latent.name for latent in latents] and all(
        _is_mean_field(prior) and _is_mean_field(posterior) for prior, posterior in pairs
    ):
        return TraceMeanField_ELBO()
    return Trace_ELBO()


def _is_mean_field(fn: Any) -> bool:
    return isinstance(strip_independent(fn), dist.Normal)


def differentiable_loss(
    objective: ELBO, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure
) -> LossOf | str:
    """Return the loss of the objective as tensors, or a sentence that says why that is not possible."""
    if isinstance(objective, Objective):
        return objective.bind(model, guide, x, structure)
    if isinstance(objective, HasTerms):
        return lambda model, guide, x: _checked(objective, objective.terms(model, guide, x))
    kind = type(objective)
    if kind is TraceEnum_ELBO:
        with torch.no_grad(), fork_rng(x.device):
            hindrance = _hinders_enumeration(objective, model, guide, x)
        return hindrance or (lambda model, guide, x: _enumerated(*_traces(objective, model, guide, x)))
    if kind is Trace_ELBO or kind is TraceMeanField_ELBO:
        for site in density_sites(structure.guide_trace):
            if not site["fn"].has_rsample:
                return f"latent '{site['name']}' is drawn without reparameterisation (score-function gradient)"
        parts = _trace if kind is Trace_ELBO else _mean_field
        return lambda model, guide, x: _over_particles(objective, model, guide, x, parts)
    return f"{kind.__name__} reads its loss on the host"


def _checked(objective: HasTerms, terms: Any) -> Terms:
    if not isinstance(terms, Terms):
        raise InvalidInputError(
            f"{type(objective).__name__}.terms gives {type(terms).__name__}: return pyrovae.objectives.Terms(loss, reconstruction)."
        )
    return terms


def is_elbo(objective: ELBO) -> bool:
    """Return whether the loss of the objective is −ELBO.

    That is so for Pyro's estimators of it, and for an object with `terms` that gives no KL of its own.
    """
    if isinstance(objective, Objective | TraceTailAdaptive_ELBO):
        return False
    return isinstance(objective, HasTerms | Trace_ELBO | TraceEnum_ELBO | TraceGraph_ELBO | TraceMeanField_ELBO)


def sums_over_points(objective: ELBO) -> bool:
    """Return whether loss and gradient of Pyro's own object are sums over points, so that processes can share them."""
    return type(objective) in (Trace_ELBO, TraceMeanField_ELBO, TraceEnum_ELBO, TraceGraph_ELBO)


def name_of(objective: ELBO) -> str:
    """Return the name of an objective: `DReG(50)`, `Trace_ELBO`."""
    return repr(objective) if isinstance(objective, Objective) else type(objective).__name__


def _over_particles(
    objective: ELBO,
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    parts: Callable[[poutine.Trace, poutine.Trace], Terms],
) -> Terms:
    """The mean over the objective's particles, from its own traces of them."""
    every = [parts(p, q) for p, q in objective._get_traces(model, guide, (x,), {})]
    return Terms(
        *(
            functools.reduce(torch.add, column) / objective.num_particles
            for column in zip(*(terms.parts for terms in every), strict=True)
        )
    )


def _trace(p: poutine.Trace, q: poutine.Trace) -> Terms:
    """log q(z|x) − log p(x, z) at one reparameterised draw."""
    return Terms(_total(density_sites(q)) - _total(density_sites(p)), _total(_observed(p)))


def _mean_field(p: poutine.Trace, q: poutine.Trace) -> Terms:
    """KL(q(z|x) ‖ p(z)) in closed form, less log p(x|z)."""
    reconstruction = _total(_observed(p))
    loss = -reconstruction
    for site in density_sites(p):
        if not site["is_observed"]:
            mate = q.nodes[site["name"]]
            try:
                loss = loss + scale_and_mask(kl_divergence(mate["fn"], site["fn"]), mate["scale"], mate["mask"]).sum()
            except NotImplementedError:
                loss = loss + mate["log_prob_sum"] - site["log_prob_sum"]
    auxiliary = [site for site in density_sites(q) if site["name"] not in p.nodes]
    return Terms(loss + _total(auxiliary) if auxiliary else loss, reconstruction)


def _observed(p: poutine.Trace) -> list[dict[str, Any]]:
    return [site for site in density_sites(p) if site["is_observed"]]


def _total(every: list[dict[str, Any]]) -> Any:
    return functools.reduce(operator.add, (site["log_prob_sum"] for site in every), 0.0)


def _traces(
    objective: ELBO, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor
) -> tuple[poutine.Trace, poutine.Trace]:
    return next(iter(objective._get_traces(model, guide, (x,), {})))


def _hinders_enumeration(objective: ELBO, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> str | None:
    """What `_enumerated` does not hold for. Where it does, every latent has a dimension left of the plates, or none."""
    if any(site["infer"].get("enumerate") == "sequential" for site in density_sites(poutine.trace(guide).get_trace(x))):
        return "the guide enumerates one value after another (sequential)"
    if objective.num_particles != 1:
        return "TraceEnum_ELBO has several particles"
    p, q = _traces(objective, model, guide, x)
    dims = [dim for site in density_sites(p) if (dim := _class_dim(site)) is not None]
    if len(set(dims)) < len(dims):
        return "dimensions of enumerated latents are used twice (pyro.markov)"
    for site in [*density_sites(p), *density_sites(q)]:
        name = site["name"]
        plates = [frame.name for frame in site["cond_indep_stack"] if frame.vectorized]
        if not site["is_observed"] and plates != [PLATE]:
            return f"latent '{name}' is in a plate of its own beside enumeration"
        if not site["is_observed"] and _class_dim(site) is None and not site["fn"].has_rsample:
            return f"latent '{name}' is drawn without reparameterisation (score-function gradient)"
        if site["mask"] is not None:
            return f"site '{name}' is masked beside enumeration"
    return None


def _class_dim(site: dict[str, Any]) -> int | None:
    """The dimension along which an enumerated latent's values lie."""
    return site["infer"].get("_enumerate_dim")


def _enumerated(p: poutine.Trace, q: poutine.Trace) -> Terms:
    """Σ_k q(k|x) [log q(k|x) − log p(x, k)] over the guide's classes; of the model's own, log Σ_k p(x, k)."""
    for site in [*density_sites(p), *density_sites(q)]:
        _read_off(site)
    own = [dim for site in density_sites(p) if site["name"] not in q.nodes and (dim := _class_dim(site)) is not None]
    inside: list[dict[str, Any]] = []
    outside: list[dict[str, Any]] = []
    for site in density_sites(p):
        (inside if any(_lies_along(site["log_prob"], dim) for dim in own) else outside).append(site)
    log_p = [sum_inner_plates(site, site["log_prob"]) for site in outside]
    if inside:  # a subsample's scale, and a warm-up's, multiply the logarithm of a sum, not what is summed
        log_p += _summed(inside, own)
    log_q = [sum_inner_plates(site, site["log_prob"]) for site in density_sites(q)]
    classes = [site["unscaled_log_prob"] for site in density_sites(q) if _class_dim(site) is not None]
    value = functools.reduce(torch.add, [*log_p, *(-term for term in log_q)])
    given_z = [sum_inner_plates(site, site["log_prob"]) for site in _observed(p)]
    fit = functools.reduce(torch.add, given_z)
    if any(site["is_observed"] for site in inside):  # E log p(x|k) would need the model's posterior of its own classes
        fit = torch.full_like(fit.detach(), math.nan)
    if not classes:
        return Terms(-value.sum(), fit.sum())
    weight = functools.reduce(torch.add, classes).exp()
    # a class of probability 0 has no share, whatever its density says
    value = torch.where(weight > 0, value, 0.0)
    return Terms(-(weight * value).sum(), (weight * fit).sum())


def _summed(inside: list[dict[str, Any]], own: list[int]) -> list[Tensor]:
    """log Σ_k p(z, k), and log Σ_k p(x, z, k) − log Σ_k p(z, k), each by the scale of its sites. With one scale, their sum."""

    def total(chosen: list[dict[str, Any]]) -> Tensor:
        joint = functools.reduce(torch.add, (sum_inner_plates(site, site["unscaled_log_prob"]) for site in chosen))
        return torch.logsumexp(joint, dim=own, keepdim=True)

    latents = [site for site in inside if not site["is_observed"]]
    weight = latents[0]["scale"]
    scale = next((site["scale"] for site in inside if site["is_observed"]), weight)
    if weight is scale or (isinstance(weight, float | int) and weight == scale):
        return [total(inside) * scale]
    prior = total(latents)
    return [prior * weight, (total(inside) - prior) * scale]


def _read_off(site: dict[str, Any]) -> None:
    """An enumerated categorical's log-density *is* its logits, which Pyro would gather, K numbers for each of K values."""
    dim, fn = _class_dim(site), site["fn"]
    if dim is None or not isinstance(fn, dist.Categorical) or site["infer"].get("num_samples") is not None:
        return
    logits = fn.logits.movedim(-1, 0)
    values = logits.reshape(len(logits), *(1,) * (-dim - logits.dim()), *logits.shape[1:])
    site["unscaled_log_prob"] = values
    site["log_prob"] = scale_and_mask(values, site["scale"], site["mask"])


def _lies_along(value: Tensor, dim: int) -> bool:
    return value.dim() >= -dim and value.shape[dim] > 1
