"""What a pair is made of, seen from one run of it; and what has no weights per point, refused with what to do."""

from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from ..errors import InvalidInputError
from ..utils.random import fork_rng
from .execution import ModelOrGuide, evaluation_mode, isolated_parameters, trace
from .sites import PLATE, base_distribution, density_sites, is_discrete, observed_sites
from .supports import has_fixed_support, is_inside, same_support
from .validation import (
    check_latents_match,
    check_points,
    check_shape,
    check_site,
    check_value,
    handles_missing,
    raise_outside_support,
)


@dataclass(frozen=True)
class Latent:
    """One latent site of a model."""

    name: str
    event_shape: tuple[int, ...]
    discrete: bool
    classes: int | None  # the number of values of a discrete scalar
    summed_out: bool  # marked for enumeration in the model and absent from the guide

    def __str__(self) -> str:
        if self.classes is not None:
            return f"{self.classes} classes"
        size = torch.Size(self.event_shape).numel()
        return f"{size} discrete" if self.discrete else f"R^{size}"


@dataclass(frozen=True)
class Structure:
    """What one run of a pair shows of it."""

    max_plate_nesting: int  # how many plate dimensions the pair uses, the data plate's among them
    latents: tuple[Latent, ...]
    base_measure: str  # of the observed sites: "counting" (probabilities), "Lebesgue" (densities) or "mixed"
    observed: int  # how many numbers of a point the model observes
    plate_full_size: int | None  # of a data plate that stands for a subsample, by which SVI scales
    no_density: str  # why there is no log p(x), where the model says so
    x: Tensor  # the points of that run
    model_trace: poutine.Trace
    guide_trace: poutine.Trace

    @property
    def deterministic_guide(self) -> bool:
        """Whether the guide's latents, all discrete, can have no other value: q(z|x) = 1 at one z, and 0 at any other."""
        drawn = density_sites(self.guide_trace)
        return bool(drawn) and all(_is_certain(site["fn"]) for site in drawn)

    def is_of(self, x: Tensor) -> bool:
        """Whether the run was on these very points."""
        return _alike(self.x, x) and torch.equal(self.x, x)

    def covers(self, x: Tensor) -> bool:
        """Whether the sites seen in that run suffice to check other points: each observes x itself, on a support that is fixed.

        The value of a function of x, and a support with parameters, are known of new points only when the pair runs on them.
        """
        sites = observed_sites(self.model_trace)
        return _alike(self.x[:1], x[:1]) and all(
            site["value"] is self.x and has_fixed_support(site["fn"]) for site in sites
        )


def inspect_pair(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, *, scored: bool = True) -> Structure:
    """Run the pair once, without side effects on random state and modules, and refuse what has no weights per point.

    A model may say of itself that it has no log p(x): its `no_density` is the sentence why. It is refused with that sentence,
    unless `scored` is false. With a guide that is a point, such a loss can be minimised like any other.
    """
    check_points(x, handles_missing(model))
    no_density = getattr(model, "no_density", "")
    if scored and no_density:
        raise InvalidInputError(no_density)
    with isolated_parameters(model, guide), evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device):
        q = trace("guide", guide, x)
        p = trace("model", poutine.replay(model, trace=q), x)
    runs = [("guide", q), ("model", p)]
    if any(site["infer"].get("is_auxiliary") for site in density_sites(q)):  # an autoguide's, which follow the model's
        runs.reverse()
    for kind, run in runs:
        for site in density_sites(run):
            check_site(kind, site, len(x))
    check_latents_match(p, q, points_allowed=bool(no_density))
    every = [*density_sites(p), *density_sites(q)]
    frames = [frame for site in every for frame in site["cond_indep_stack"] if frame.vectorized]
    max_plate_nesting = max(-frame.dim for frame in frames)
    sizes = {frame.full_size or frame.size for frame in frames if frame.name == PLATE}
    if len(sizes) > 1:
        raise InvalidInputError(
            f'plate("{PLATE}") is said to have {" and ".join(map(str, sorted(sizes)))} points in all at different sites: SVI would '
            "scale them differently; give all of them, in model and guide, one size."
        )
    for site in every:
        check_shape(site, max_plate_nesting)
    observed = observed_sites(p)
    for site in observed:
        check_value(site, site["value"])
    _check_moving_supports(model, guide, x, p)
    kinds = {is_discrete(site["fn"]) for site in observed}
    return Structure(
        max_plate_nesting=max_plate_nesting,
        latents=tuple(_latent(site, q) for site in density_sites(p) if not site["is_observed"]),
        base_measure="mixed" if len(kinds) == 2 else "counting" if kinds == {True} else "Lebesgue",
        observed=sum(site["value"].numel() for site in observed) // len(x),
        plate_full_size=next((size for size in sizes if size != len(x)), None),
        no_density=no_density,
        x=x,
        model_trace=p,
        guide_trace=q,
    )


def _check_moving_supports(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, p: poutine.Trace) -> None:
    """Refuse points outside a support that depends on x but not on the draw: no draw would allow them.

    Where the support is another one at another draw, a point outside has weight 0 for that draw, and there is nothing to refuse.
    """
    outside = [
        site for site in observed_sites(p) if not has_fixed_support(site["fn"]) and not bool(is_inside(site).all())
    ]
    if not outside:
        return
    with isolated_parameters(model, guide), evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device):
        torch.rand(1, device=x.device)  # the first run had the draws before this one
        q = trace("guide", guide, x)
        again = trace("model", poutine.replay(model, trace=q), x)
    for site in outside:
        if same_support(site["fn"], again.nodes[site["name"]]["fn"]):
            raise_outside_support(site, site["value"])


def _alike(x: Tensor, other: Tensor) -> bool:
    return x.shape == other.shape and x.dtype == other.dtype and x.device == other.device


def _is_certain(fn: Any) -> bool:
    """Probabilities of 0 but for one; those that only round to it have finite logarithms."""
    base = base_distribution(fn)
    if not isinstance(base, dist.Categorical | dist.OneHotCategorical):
        return False
    return bool((torch.isfinite(base.logits).sum(-1) == 1).all()) and base.logits.shape[-1] > 1


def _latent(site: dict[str, Any], guide_trace: poutine.Trace) -> Latent:
    fn = site["fn"]
    return Latent(
        name=site["name"],
        event_shape=tuple(fn.event_shape),
        discrete=is_discrete(fn),
        classes=len(fn.enumerate_support(expand=False)) if fn.has_enumerate_support and not fn.event_shape else None,
        summed_out=site["name"] not in guide_trace,
    )
