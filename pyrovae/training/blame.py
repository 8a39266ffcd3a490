"""Which site, which parameter and which points a step that is no number comes from."""

import torch
from pyro import poutine
from torch import Tensor

from ..errors import Diverged, Refusal
from ..running import Program, evaluation_mode, modules, scoring, sites, trace
from ..structure import point_dim

WORST = 5  # points that are named


def blame(model: Program, guide: Program, x: Tensor, rows: Tensor | None, leaves: list[Tensor]) -> str | None:
    """The first site whose log-density is not a finite number at another draw, and the worst points; else the first parameter
    that is none; else None. Points are named by their rows in the data, or by their places in the batch."""
    try:
        with scoring(model, guide), evaluation_mode(model, guide), torch.no_grad():
            q = trace("guide", guide, x)
            p = trace("model", poutine.replay(model, trace=q), x)
            for kind, run in (("guide", q), ("model", p)):
                for site in sites(run):
                    values = site["fn"].log_prob(site["value"])
                    if bool(torch.isfinite(values).all()):
                        continue
                    return f"log-density {_first(values)} at site '{site['name']}' of the {kind}, {_points(site, values, rows)}"
    except (
        Diverged,
        Refusal,
        RuntimeError,
        ValueError,
    ):  # the pair cannot be run at all: its parameters are to be seen
        pass
    names = {id(parameter): name for module in modules(model, guide) for name, parameter in module.named_parameters()}
    for leaf in leaves:
        if not bool(torch.isfinite(leaf).all()):
            return f"parameter {names.get(id(leaf), 'in the store')} holds {_first(leaf.detach())}"
    return None


def _first(values: Tensor) -> float:
    return values[~torch.isfinite(values)][0].item()


def _points(site: dict, values: Tensor, rows: Tensor | None) -> str:
    axis = values.dim() + point_dim(site)
    bad = (~torch.isfinite(values)).movedim(axis, 0).flatten(1).any(1) if values.dim() > 1 else ~torch.isfinite(values)
    places = bad.nonzero().flatten()
    named = (places if rows is None else rows[places]).tolist()
    what = "data point" if rows is not None else "point of the batch"
    more = f" and {len(named) - WORST} more" if len(named) > WORST else ""
    return f"{what}{'s' if len(named) > 1 else ''} {', '.join(map(str, named[:WORST]))}{more}"
