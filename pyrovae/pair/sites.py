"""The sites of a run: which have a density, and where a site's points are."""

from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from .supports import has_fixed_support, is_inside

PLATE = "data"  # the plate in which a pair names its points

SAMPLES = "_samples"  # the plate of draws, outside all of the pair's own


def density_sites(run: poutine.Trace) -> list[dict[str, Any]]:
    """The sites that have a density: a plate is a site too, and so is `pyro.deterministic`, and neither has one."""
    return [
        site
        for site in run.nodes.values()
        if site["type"] == "sample" and not site_is_subsample(site) and not site["infer"].get("_deterministic")
    ]


def observed_sites(run: poutine.Trace) -> list[dict[str, Any]]:
    """The sites that observe data: a `pyro.factor` is observed too, and is none of them."""
    return [site for site in density_sites(run) if site["is_observed"] and not isinstance(site["fn"], dist.Unit)]


def point_dim(site: dict[str, Any]) -> int:
    """The batch dimension, counted from the right, along which the site's points lie."""
    return next(frame.dim for frame in site["cond_indep_stack"] if frame.name == PLATE)


def points_axis(site: dict[str, Any]) -> int:
    """The axis of a site's value along which its points lie."""
    return site["value"].dim() - site["fn"].event_dim + point_dim(site)


def is_discrete(fn: Any) -> bool:
    """Return whether a distribution is over a discrete space."""
    try:
        return bool(fn.support.is_discrete)
    except (NotImplementedError, AttributeError):
        return False


def log_density(site: dict[str, Any]) -> Tensor:
    """A site's log-density over all its batch dimensions: its mask is kept, its scale is left out, its value is not checked."""
    log_prob = site["fn"].log_prob(site["value"])
    if site["is_observed"] and not has_fixed_support(site["fn"]):
        log_prob = torch.where(is_inside(site), log_prob, -torch.inf)  # a draw under which x cannot be has weight 0
    if site["mask"] is None:
        return log_prob
    return torch.where(torch.as_tensor(site["mask"], device=log_prob.device), log_prob, 0.0)


def sum_inner_plates(site: dict[str, Any], value: Tensor) -> Tensor:
    """Sum over the plates inside each point. `value` has a site's batch dimensions; those that are summed stay, with size 1."""
    inner = [
        frame.dim
        for frame in site["cond_indep_stack"]
        if frame.vectorized and frame.name not in (PLATE, SAMPLES) and value.dim() >= -frame.dim
    ]
    return value.sum(dim=inner, keepdim=True) if inner else value


def strip_independent(fn: Any) -> Any:
    """The distribution before `.to_event`."""
    while isinstance(fn, torch.distributions.Independent):
        fn = fn.base_dist
    return fn


def base_distribution(fn: Any) -> Any:
    """The distribution before `.to_event`, `.expand` and `.mask`."""
    while hasattr(fn, "base_dist") and not isinstance(fn, dist.TransformedDistribution):
        fn = fn.base_dist
    return fn


def mean_or_none(fn: Any) -> Tensor | None:
    """E[z] of a distribution that knows it."""
    try:
        mean = fn.mean
    except (NotImplementedError, AttributeError):
        return None
    return mean if bool(torch.isfinite(mean).all()) else None
