"""What a pair is made of, seen from one run of it; and what has no weights per point, refused with what to do."""

from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from ..errors import Diverged, Refusal
from .execution import Program, evaluation_mode, fork_rng, scoring, sites, trace

PLATE = "data"  # the plate in which a pair names its points


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

    nesting: int  # how many plate dimensions the pair uses, the data plate's among them
    latents: tuple[Latent, ...]
    measure: str  # of the observed sites: "counting" (probabilities), "Lebesgue" (densities) or "mixed"
    observed: int  # how many numbers of a point the model observes
    full_size: int | None  # of a data plate that stands for a subsample, by which SVI scales
    no_density: str  # why there is no log p(x), where the model says so
    model_trace: poutine.Trace
    guide_trace: poutine.Trace

    @property
    def certain(self) -> bool:
        """Whether the guide's latents, all discrete, can have no other value: q(z|x) = 1 at one z, and 0 at any other."""
        drawn = sites(self.guide_trace)
        return bool(drawn) and all(_is_certain(site["fn"]) for site in drawn)


def inspect(model: Program, guide: Program, x: Tensor, *, scored: bool = True) -> Structure:
    """Run the pair once, without side effects on random state and modules, and refuse what has no weights per point.

    A model may say of itself that it has no log p(x): its `no_density` is the sentence why. It is refused with that sentence,
    unless it is not to be `scored`: a loss that is no density can be minimised as any other, by a guide that is a point.
    """
    refuse_bad_points(x)
    no_density = getattr(model, "no_density", "")
    if scored and no_density:
        raise Refusal(no_density)
    with scoring(model, guide), evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device):
        q = trace("guide", guide, x)
        p = trace("model", poutine.replay(model, trace=q), x)
    for kind, run in (("guide", q), ("model", p)):
        for site in sites(run):
            _refuse_site(kind, site, len(x))
    _refuse_mismatch(p, q, points_allowed=bool(no_density))
    every = [*sites(p), *sites(q)]
    frames = [frame for site in every for frame in site["cond_indep_stack"] if frame.vectorized]
    nesting = max(-frame.dim for frame in frames)
    sizes = {frame.full_size or frame.size for frame in frames if frame.name == PLATE}
    if len(sizes) > 1:
        raise Refusal(
            f'plate("{PLATE}") is said to have {" and ".join(map(str, sorted(sizes)))} points in all at different sites: SVI would '
            "scale them differently; give all of them, in model and guide, one size."
        )
    for site in every:
        _refuse_shape(site, nesting)
    observed = observed_sites(p)
    for site in observed:
        refuse_value(site, site["value"])
    kinds = {_is_discrete(site["fn"]) for site in observed}
    return Structure(
        nesting=nesting,
        latents=tuple(_latent(site, q) for site in sites(p) if not site["is_observed"]),
        measure="mixed" if len(kinds) == 2 else "counting" if kinds == {True} else "Lebesgue",
        observed=sum(site["value"].numel() for site in observed) // len(x),
        full_size=next((size for size in sizes if size != len(x)), None),
        no_density=no_density,
        model_trace=p,
        guide_trace=q,
    )


def observed_sites(run: poutine.Trace) -> list[dict[str, Any]]:
    """The sites that observe data: a `pyro.factor` is observed too, and is none of them."""
    return [site for site in sites(run) if site["is_observed"] and not isinstance(site["fn"], dist.Unit)]


def point_dim(site: dict[str, Any]) -> int:
    """The batch dimension, counted from the right, along which the site's points lie."""
    return next(frame.dim for frame in site["cond_indep_stack"] if frame.name == PLATE)


def points_axis(site: dict[str, Any]) -> int:
    """The axis of a site's value along which its points lie."""
    return site["value"].dim() - site["fn"].event_dim + point_dim(site)


def refuse_bad_points(x: Tensor) -> None:
    """x must be (N, ...), N ≥ 1, floating point and finite."""
    if not isinstance(x, Tensor) or x.dim() < 2 or len(x) == 0:
        shape = tuple(x.shape) if isinstance(x, Tensor) else f"{type(x).__name__} (torch.as_tensor converts it)"
        raise Refusal(f"x must be a tensor with a row for each data point, (N, D) with N ≥ 1; got {shape}.")
    if not x.is_floating_point():
        raise Refusal(f"x is {x.dtype}: convert it with x.float() or x.double(), the type of the model's parameters.")
    # where the sum is finite every number is, which takes a tenth of the time to find; a sum may be too large by itself
    if bool(x.detach().sum().isfinite()):
        return
    bad = ~torch.isfinite(x)
    if bool(bad.any()):
        index = tuple(bad.nonzero()[0].tolist())
        place = f"x[{', '.join(map(str, index))}]"
        count = int(bad.flatten(1).any(1).sum())
        raise Refusal(
            f"{place} is {x[index].item()}: remove or impute such values; {count} of {len(x)} points have any."
        )


def refuse_value(site: dict[str, Any], value: Tensor) -> None:
    """A site's value must have the shape and lie in the support of its distribution."""
    fn, name = site["fn"], site["name"]
    split = value.dim() - fn.event_dim
    if tuple(value.shape[split:]) != tuple(fn.event_shape):
        raise Refusal(
            f"Site '{name}' is of shape {tuple(fn.event_shape)} for each point, and is given values of shape "
            f"{tuple(value.shape[split:])}: build the pair for points of the data's size."
        )
    try:
        inside = fn.support.check(value)
    except (NotImplementedError, AttributeError):
        return
    if bool(inside.all()):
        return
    inner = getattr(fn, "family", fn)  # Indexed holds the family that it picks from
    family = type(getattr(inner, "base_dist", inner)).__name__
    if not site["is_observed"]:
        if bool(torch.isnan(value).any()):
            raise Diverged(
                f"The guide draws nan for latent '{name}': look at its parameters, or lower the learning rate."
            )
        raise Refusal(
            f"The guide draws latent '{name}' outside the support of the model's {family}: give both one support."
        )
    index = tuple((~inside).nonzero()[0].tolist())
    bad = value[index].flatten()
    culprit = bad[~fn.support.base_constraint.check(bad)] if hasattr(fn.support, "base_constraint") else bad
    number = (culprit if len(culprit) else bad)[0].item()
    hint = (
        "binarise them first (--transform binarise, in Python transforms.Binarise or Threshold)"
        if _is_discrete(fn)
        else "transform them first"
    )
    raise Refusal(
        f"Point {index[-1]} has the value {number:.4g} at site '{name}', outside the support of {family}: such data are no "
        f"draw from this likelihood; {hint}, or choose another likelihood."
    )


def _is_discrete(fn: Any) -> bool:
    try:
        return bool(fn.support.is_discrete)
    except (NotImplementedError, AttributeError):
        return False


def _is_certain(fn: Any) -> bool:
    """Probabilities of 0 but for one; those that only round to it have finite logarithms."""
    base = _base(fn)
    if not isinstance(base, dist.Categorical | dist.OneHotCategorical):
        return False
    return bool((torch.isfinite(base.logits).sum(-1) == 1).all()) and base.logits.shape[-1] > 1


def _latent(site: dict[str, Any], guide_trace: poutine.Trace) -> Latent:
    fn = site["fn"]
    return Latent(
        name=site["name"],
        event_shape=tuple(fn.event_shape),
        discrete=_is_discrete(fn),
        classes=len(fn.enumerate_support(expand=False)) if fn.has_enumerate_support and not fn.event_shape else None,
        summed_out=site["name"] not in guide_trace,
    )


def _refuse_site(kind: str, site: dict[str, Any], points: int) -> None:
    name = site["name"]
    frames = {frame.name: frame for frame in site["cond_indep_stack"]}
    if PLATE not in frames:
        where = f"site '{name}' of the {kind} is outside plate(\"{PLATE}\")"
        if kind == "guide" and site["infer"].get("is_auxiliary"):
            raise Refusal(f"{where}: it ties all points together, so none has a weight of its own; use AutoNormal.")
        raise Refusal(
            f"{where} (the plate of points has that name), so the weights do not factorise over points: move it inside, or "
            "make it a parameter if it is global."
        )
    if not frames[PLATE].vectorized:
        raise Refusal(f'plate("{PLATE}") is sequential at site \'{name}\': use `with pyro.plate("{PLATE}", len(x)):`.')
    if frames[PLATE].size != points:
        raise Refusal(
            f"plate(\"{PLATE}\") has {frames[PLATE].size} points at site '{name}' of the {kind} where x has {points}: write "
            f'`with pyro.plate("{PLATE}", len(x)):`. (An autoguide belongs to the points that it was fitted on.)'
        )
    subsample = (frames[PLATE].full_size or points) / points  # SVI's business: it never enters a weight
    if not _equals(site["scale"], 1.0) and not _equals(site["scale"], subsample):
        raise Refusal(
            f"Site '{name}' of the {kind} is scaled (poutine.scale, or a subsampled inner plate): a likelihood has no such "
            "knob; keep scales in the training objective."
        )
    if kind == "guide" and site["is_observed"]:
        raise Refusal(f"Site '{name}' of the guide is observed: a guide only draws latents, remove its obs=.")


def _equals(scale: Any, number: float) -> bool:
    return bool((torch.as_tensor(scale, dtype=torch.float64) - number).abs().max() < 1e-9 * number)


def _refuse_shape(site: dict[str, Any], nesting: int) -> None:
    fn, value = site["fn"], site["value"]
    if len(fn.batch_shape) > nesting:
        raise Refusal(
            f"Site '{site['name']}' has batch shape {tuple(fn.batch_shape)}, more dimensions than there are plates: declare "
            "those of one point with .to_event(1)."
        )
    own = {frame.dim for frame in site["cond_indep_stack"] if frame.vectorized}
    for dim in range(-len(fn.batch_shape), 0):
        if fn.batch_shape[dim] > 1 and dim not in own:
            raise Refusal(
                f"Site '{site['name']}' has {fn.batch_shape[dim]} values at plate dimension {dim} without being inside that "
                "plate: a value has left its plate; sum over it, or put the site inside."
            )
    batch = tuple(value.shape[: max(0, value.dim() - fn.event_dim)])
    if len(batch) > len(fn.batch_shape) or any(
        size not in (1, expected) for size, expected in zip(batch[::-1], fn.batch_shape[::-1], strict=False)
    ):
        raise Refusal(
            f"Site '{site['name']}' has batch shape {tuple(fn.batch_shape)} and is given values of shape {tuple(value.shape)}: "
            "points would be scored against one another; declare the dimensions of one point with .to_event(1)."
        )


def _refuse_mismatch(p: poutine.Trace, q: poutine.Trace, points_allowed: bool) -> None:
    latents = {site["name"]: site for site in sites(p) if not site["is_observed"]}
    drawn = {site["name"]: site for site in sites(q)}
    for name, site in latents.items():
        if name not in drawn and site["infer"].get("enumerate") != "parallel":
            raise Refusal(
                f"Latent '{name}' is in the model but not in the guide, and would be drawn from its prior: give it obs= if it "
                f"is data, else sample '{name}' in the guide, or, if it is discrete, mark it "
                'infer={"enumerate": "parallel"} to sum it out.'
            )
    auxiliary = [name for name, site in drawn.items() if site["infer"].get("is_auxiliary")]
    for name in drawn:
        if name not in latents and name not in auxiliary:
            raise Refusal(
                f"Latent '{name}' is in the guide but not in the model: sample '{name}' in the model, or leave it out of the "
                "guide."
            )
    if not observed_sites(p):
        raise Refusal("The model observes nothing: write pyro.sample(..., obs=x) for the data.")
    for name in latents.keys() & drawn.keys():
        point_mass = isinstance(_base(drawn[name]["fn"]), dist.Delta)
        if auxiliary and not point_mass:
            raise Refusal(
                f"The guide draws '{name}' with the help of auxiliary site '{auxiliary[0]}': its density q(z|x), summed over "
                "the helper, is not known, and there are no weights without it; make the latent a function of the helper "
                "(AutoNormal's form), or leave the helper out."
            )
        if (
            point_mass
            and not points_allowed
            and not auxiliary
            and not bool(torch.as_tensor(_base(drawn[name]["fn"]).log_density).any())
        ):
            raise Refusal(
                f"Latent '{name}' has a point mass for a guide: a point has no density, so there are no weights; use a guide "
                "with a width."
            )


def _base(fn: Any) -> Any:
    while hasattr(fn, "base_dist") and not isinstance(fn, dist.TransformedDistribution):
        fn = fn.base_dist
    return fn
