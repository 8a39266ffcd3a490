"""What a site and its values must be, with one sentence for each way in which they are not."""

import math
from collections.abc import Iterator
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.datasets import Data
from ..data.streams import PointStream
from ..errors import InvalidInputError, NonFiniteError
from ..utils.precision import check_device
from .sites import PLATE, base_distribution, density_sites, is_discrete, observed_sites
from .supports import has_fixed_support, is_inside


def handles_missing(model: Any) -> bool:
    """Whether a model takes x with missing entries, NaN, which it says by `handles_missing = True`."""
    return bool(getattr(model, "handles_missing", False))


def check_points(x: Tensor, missing: bool = False, first: int = 0) -> None:
    """x must be (N, ...), N ≥ 1, floating point and finite; with `missing`, it may have NaN. The first point has the number `first`."""
    if isinstance(x, PointStream):
        for start, block in x.blocks():
            check_points(block, missing, start)
        return
    if not isinstance(x, Tensor) or x.dim() < 2 or len(x) == 0:
        shape = tuple(x.shape) if isinstance(x, Tensor) else f"{type(x).__name__} ({_how_to_convert(x)})"
        raise InvalidInputError(f"x must be a tensor with a row for each data point, (N, D) with N ≥ 1; got {shape}.")
    if x.layout != torch.strided:
        raise InvalidInputError("x is a sparse tensor: convert it with x.to_dense(), or a batch of it at a time.")
    if not x.is_floating_point():
        raise InvalidInputError(
            f"x is {x.dtype}: convert it with x.float() or x.double(), the type of the model's parameters."
        )
    check_device(x.device)
    # where the sum is finite every number is, which takes a tenth of the time to find; a sum may be too large by itself
    if bool(x.detach().sum().isfinite()):
        return
    bad = x.isinf() if missing else ~torch.isfinite(x)
    if bool(bad.any()):
        index = tuple(bad.nonzero()[0].tolist())
        place = f"x[{', '.join(map(str, (first + index[0], *index[1:])))}]"
        count = int(bad.flatten(1).any(1).sum())
        if bool(x[index].isnan()):
            raise InvalidInputError(
                f"{place} is nan, and this pair takes no missing values: remove or impute such values ({count} of {len(x)} points "
                "have any), or choose a pair that takes them, such as ppca, gmm or vae."
            )
        raise InvalidInputError(
            f"{place} is {x[index].item()}: remove or impute such values; {count} of {len(x)} points have any."
        )


def _how_to_convert(x: Any) -> str:
    if isinstance(x, Data):
        return "its points are .train and .test"
    if hasattr(x, "to_numpy"):
        return "torch.tensor(x.to_numpy()) makes one"
    if isinstance(x, Dataset | DataLoader | Iterator):
        return "pyrovae.fit and pyrovae.evaluate take it; for others, torch.cat joins its batches"
    return "torch.as_tensor converts it"


def check_value(site: dict[str, Any], value: Tensor) -> None:
    """A site's value must have the shape and lie in the support of its distribution."""
    fn, name = site["fn"], site["name"]
    split = value.dim() - fn.event_dim
    if tuple(value.shape[split:]) != tuple(fn.event_shape):
        raise InvalidInputError(
            f"Site '{name}' is of shape {tuple(fn.event_shape)} for each point, and is given values of shape "
            f"{tuple(value.shape[split:])}: build the pair for points of the data's size."
        )
    if site["is_observed"] and not has_fixed_support(fn):
        return  # the draw decides whether x is inside, and outside it has weight 0
    inside = is_inside({**site, "value": value})
    if bool(inside.all()):
        return
    if not site["is_observed"]:
        if bool(torch.isnan(value).any()):
            raise NonFiniteError(
                f"The guide draws nan for latent '{name}': look at its parameters, or lower the learning rate."
            )
        raise InvalidInputError(
            f"The guide draws latent '{name}' outside the support of the model's {_family(fn)}: give both one support."
        )
    raise_outside_support(site, value)


def raise_outside_support(site: dict[str, Any], value: Tensor) -> None:
    """Raise `InvalidInputError` that names the first point of a site outside its support, and what to do."""
    fn, name = site["fn"], site["name"]
    inside = is_inside({**site, "value": value})
    shape = torch.broadcast_shapes(tuple(value.shape), (*inside.shape, *fn.event_shape))
    index = tuple((~inside).nonzero()[0].tolist())
    bad = value.expand(shape)[index].flatten()
    elements = getattr(fn.support, "base_constraint", fn.support)
    wrong = ~torch.as_tensor(elements.check(value)).expand(shape)[index].flatten()
    number = (bad[wrong] if len(wrong) == len(bad) and bool(wrong.any()) else bad)[0].item()
    if math.isnan(number):
        raise InvalidInputError(
            f"Point {index[-1]} has a missing value, nan, at site '{name}', and {_family(fn)} takes none: observe "
            "pyrovae.distributions.observed(density, x) in its place, or remove such points."
        )
    if isinstance(base_distribution(getattr(fn, "family", fn)), dist.Bernoulli):
        hint = "Binarise them first (--transform binarise, in Python transforms.Binarise or Threshold)"
    else:
        hint = "Give it raw counts, whole numbers from 0" if is_discrete(fn) else "Transform them first"
    raise InvalidInputError(
        f"Point {index[-1]} has the value {number:.4g} at site '{name}', outside the support of {_family(fn)}. Such data are no "
        f"draw from this likelihood. {hint}, or choose another likelihood."
    )


def _family(fn: Any) -> str:
    inner = getattr(fn, "family", fn)  # `Indexed` holds the family that it picks from
    return type(getattr(inner, "base_dist", inner)).__name__


def check_site(kind: str, site: dict[str, Any], points: int) -> None:
    """Raise `InvalidInputError` for a site that has no density of each point."""
    name = site["name"]
    frames = {frame.name: frame for frame in site["cond_indep_stack"]}
    if PLATE not in frames:
        where = f"site '{name}' of the {kind} is outside plate(\"{PLATE}\")"
        if kind == "guide" and site["infer"].get("is_auxiliary"):
            raise InvalidInputError(
                f"{where}: it ties all points together, so none has a weight of its own; use AutoNormal."
            )
        raise InvalidInputError(
            f"{where} (the plate of points has that name), so the weights do not factorise over points. Move it inside, "
            "make it a parameter, or fix it with pyrovae.condition_on_globals."
        )
    if not frames[PLATE].vectorized:
        raise InvalidInputError(
            f'plate("{PLATE}") is sequential at site \'{name}\': use `with pyro.plate("{PLATE}", len(x)):`.'
        )
    if frames[PLATE].size != points:
        raise InvalidInputError(
            f"plate(\"{PLATE}\") has {frames[PLATE].size} points at site '{name}' of the {kind} where x has {points}: write "
            f'`with pyro.plate("{PLATE}", len(x)):`. (An autoguide belongs to the points that it was fitted on.)'
        )
    subsample = (frames[PLATE].full_size or points) / points  # SVI's business: it never enters a weight
    if not _equals(site["scale"], 1.0) and not _equals(site["scale"], subsample):
        raise InvalidInputError(
            f"Site '{name}' of the {kind} is scaled (poutine.scale, or a subsampled inner plate): a likelihood has no such "
            "knob; keep scales in the training objective."
        )
    if kind == "guide" and site["is_observed"]:
        raise InvalidInputError(f"Site '{name}' of the guide is observed: a guide only draws latents, remove its obs=.")


def _equals(scale: Any, number: float) -> bool:
    return bool((torch.as_tensor(scale, dtype=torch.float64) - number).abs().max() < 1e-9 * number)


def check_shape(site: dict[str, Any], max_plate_nesting: int) -> None:
    """Raise `InvalidInputError` for a site with more batch dimensions than plates."""
    fn, value = site["fn"], site["value"]
    if len(fn.batch_shape) > max_plate_nesting:
        raise InvalidInputError(
            f"Site '{site['name']}' has batch shape {tuple(fn.batch_shape)}, more dimensions than there are plates: declare "
            "those of one point with .to_event(1)."
        )
    own = {frame.dim for frame in site["cond_indep_stack"] if frame.vectorized}
    for dim in range(-len(fn.batch_shape), 0):
        if fn.batch_shape[dim] > 1 and dim not in own:
            raise InvalidInputError(
                f"Site '{site['name']}' has {fn.batch_shape[dim]} values at plate dimension {dim} without being inside that "
                "plate: a value has left its plate; sum over it, or put the site inside."
            )
    batch = tuple(value.shape[: max(0, value.dim() - fn.event_dim)])
    if len(batch) > len(fn.batch_shape) or any(
        size not in (1, expected) for size, expected in zip(batch[::-1], fn.batch_shape[::-1], strict=False)
    ):
        raise InvalidInputError(
            f"Site '{site['name']}' has batch shape {tuple(fn.batch_shape)} and is given values of shape {tuple(value.shape)}: "
            "points would be scored against one another; declare the dimensions of one point with .to_event(1)."
        )


def check_latents_match(p: poutine.Trace, q: poutine.Trace, points_allowed: bool) -> None:
    """Raise `InvalidInputError` unless model and guide name the same latents, of the same shape."""
    latents = {site["name"]: site for site in density_sites(p) if not site["is_observed"]}
    drawn = {site["name"]: site for site in density_sites(q)}
    for name, site in latents.items():
        if name not in drawn and site["infer"].get("enumerate") != "parallel":
            raise InvalidInputError(
                f"Latent '{name}' is in the model but not in the guide, and would be drawn from its prior. If it is data, give "
                f"it obs=. Else sample '{name}' in the guide. A discrete latent can also be summed out, by "
                'infer={"enumerate": "parallel"}.'
            )
    auxiliary = [name for name, site in drawn.items() if site["infer"].get("is_auxiliary")]
    for name in drawn:
        if name not in latents and name not in auxiliary:
            raise InvalidInputError(
                f"Latent '{name}' is in the guide but not in the model: sample '{name}' in the model, or leave it out of the "
                "guide."
            )
    if not observed_sites(p):
        raise InvalidInputError("The model observes nothing: write pyro.sample(..., obs=x) for the data.")
    for name in latents.keys() & drawn.keys():
        point_mass = isinstance(base_distribution(drawn[name]["fn"]), dist.Delta)
        if auxiliary and not point_mass:
            raise InvalidInputError(
                f"The guide draws '{name}' with the help of auxiliary site '{auxiliary[0]}': its density q(z|x), summed over "
                "the helper, is not known, and there are no weights without it; make the latent a function of the helper "
                "(AutoNormal's form), or leave the helper out."
            )
        if (
            point_mass
            and not points_allowed
            and not auxiliary
            and not bool(torch.as_tensor(base_distribution(drawn[name]["fn"]).log_density).any())
        ):
            raise InvalidInputError(
                f"Latent '{name}' has a point mass for a guide: a point has no density, so there are no weights; use a guide "
                "with a width."
            )
