"""Which site, which parameter and which points a step that is no number comes from."""

from collections.abc import Iterator
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ..errors import InvalidInputError, RunError
from ..pair.execution import ModelOrGuide, evaluation_mode, isolated_parameters, modules, trace
from ..pair.sites import density_sites, point_dim

WORST = 5  # points that are named


def locate_nonfinite(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, rows: Tensor | None, leaves: list[Tensor]
) -> str | None:
    """Say which site, parameter and points a non-finite step comes from.

    It is the first site whose log-density is not finite at another draw, with its points. Else it is the first site
    whose gradient is not finite, with the parameter and the points. Else it is the first parameter that is not
    finite; else None. Points are named by their rows in the data, or by their places in the batch.
    """
    names = {id(parameter): name for module in modules(model, guide) for name, parameter in module.named_parameters()}
    try:
        with isolated_parameters(model, guide), evaluation_mode(model, guide):
            place = _bad_density(model, guide, x, rows) or _bad_gradient(model, guide, x, rows, leaves, names)
            if place:
                return place
    except (
        RunError,
        InvalidInputError,
        RuntimeError,
        ValueError,
    ):  # the pair cannot be run at all: its parameters are to be seen
        pass
    for leaf in leaves:
        if not bool(torch.isfinite(leaf).all()):
            return f"{_named(leaf, names)} holds {_first(leaf.detach())}"
    return None


def _bad_density(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, rows: Tensor | None) -> str | None:
    with torch.no_grad():
        for kind, site, values in _densities(model, guide, x):
            if not bool(torch.isfinite(values).all()):
                axis = values.dim() + point_dim(site)
                bad = (~torch.isfinite(values)).movedim(axis, 0).reshape(len(x), -1).any(1)
                place = f"log-density {_first(values)} at site '{site['name']}' of the {kind}"
                return f"{place}, {_points(bad.nonzero().flatten(), rows)}"
    return None


def _bad_gradient(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    rows: Tensor | None,
    leaves: list[Tensor],
    names: dict[int, str],
) -> str | None:
    first = _hurt(model, guide, x, leaves)
    if first is None:
        return None
    kind, name, leaf, value = first
    alone = [n for n in range(len(x)) if _hurt(model, guide, x[n : n + 1], [leaf], name)]
    place = f"gradient {value} of site '{name}' of the {kind} by {_named(leaf, names)}"
    return f"{place}, {_points(torch.tensor(alone, device=x.device), rows)}" if alone else place


def _hurt(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, leaves: list[Tensor], only: str | None = None
) -> tuple[str, str, Tensor, float] | None:
    """The first site, or that one, with a gradient that is no finite number: its half and name, the parameter, the number."""
    for kind, site, values in _densities(model, guide, x):
        if not values.requires_grad or only not in (None, site["name"]):
            continue
        parts = torch.autograd.grad(values.sum(), leaves, allow_unused=True, retain_graph=True)
        for leaf, part in zip(leaves, parts, strict=True):
            if part is not None and not bool(torch.isfinite(part).all()):
                return kind, site["name"], leaf, _first(part)
    return None


def _densities(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> Iterator[tuple[str, dict[str, Any], Tensor]]:
    """Every site of a run, the guide's first, with its half and its log-density."""
    q = trace("guide", guide, x)
    p = trace("model", poutine.replay(model, trace=q), x)
    for kind, run in (("guide", q), ("model", p)):
        for site in density_sites(run):
            yield kind, site, site["fn"].log_prob(site["value"])


def _named(leaf: Tensor, names: dict[int, str]) -> str:
    return f"parameter {names.get(id(leaf), 'in the store')}"


def _first(values: Tensor) -> float:
    return values[~torch.isfinite(values)][0].item()


def _points(places: Tensor, rows: Tensor | None) -> str:
    named = sorted((places if rows is None else rows[places]).tolist())
    what = "data point" if rows is not None else "point of the batch"
    more = f" and {len(named) - WORST} more" if len(named) > WORST else ""
    return f"{what}{'s' if len(named) > 1 else ''} {', '.join(map(str, named[:WORST]))}{more}"
