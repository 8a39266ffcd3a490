"""Draws from a guide, block after block: its networks run once for a batch of points, not once for a block of draws."""

from collections.abc import Iterator
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ..pair.execution import ModelOrGuide, isolated_parameters, trace
from ..pair.importance_weights import run_guide
from ..pair.sites import density_sites


def blocks(
    guide: ModelOrGuide, x: Tensor, draws: int, max_plate_nesting: int, independent: bool
) -> Iterator[poutine.Trace]:
    """Without end, a run of the guide with `draws` draws from q(·|x) as its values.

    All are drawn from torch's global generator in one order, so a block depends on how many came before and on nothing else.
    With `independent`, as `independent_sites` finds it, the guide is run once and its distributions are drawn from again; else it is run
    for every block. To be called inside `isolated_parameters`.
    """
    q = run_guide(guide, x, draws, max_plate_nesting)
    while True:
        yield q
        if independent:
            q = with_values(q, {site["name"]: site["fn"](*site["args"], **site["kwargs"]) for site in density_sites(q)})
        else:
            q = run_guide(guide, x, draws, max_plate_nesting)


def with_values(q: poutine.Trace, values: dict[str, Tensor]) -> poutine.Trace:
    """The run with other values at its sites."""
    copy = poutine.Trace()
    for name, site in q.nodes.items():
        if site["type"] == "sample":
            copy.add_node(name, **{**site, "value": values.get(name, site["value"])})
    return copy


def narrowed(q: poutine.Trace, start: int, length: int, max_plate_nesting: int) -> poutine.Trace:
    """The run with `length` of its draws, from the one at `start`."""
    values = {}
    for site in density_sites(q):
        values[site["name"]] = site["value"].narrow(draws_axis(site, max_plate_nesting), start, length)
    return with_values(q, values)


def draws_axis(site: dict[str, Any], max_plate_nesting: int) -> int:
    """The axis of a site's value along which its draws are."""
    return site["value"].dim() - site["fn"].event_dim - 1 - max_plate_nesting


def independent_sites(guide: ModelOrGuide, x: Tensor) -> bool:
    """Return whether no latent's distribution in the guide is computed from a draw, of its own or of another latent.

    Then all of them can be drawn again without running the guide. False if it is unknown.
    """
    watch = _Watch()
    try:
        with isolated_parameters(guide), torch.no_grad():
            trace("guide", watch(guide), x)
    except torch.OutOfMemoryError:
        raise
    except Exception:
        return False
    return watch.independent and not watch.reads


class _Watch(pyro.poutine.messenger.Messenger):
    """Marks every draw, and sees whether a later distribution carries the mark."""

    def __init__(self) -> None:
        super().__init__()
        self.independent = True
        self.reads: list[str] = []
        self.mark = type("_Mark", (_Drawn,), {"reads": self.reads})

    def _pyro_post_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or not isinstance(msg["value"], Tensor):
            return
        # a distribution of marked parameters makes a marked draw
        self.independent &= not isinstance(msg["value"], _Drawn) and not isinstance(msg["mask"], _Drawn)
        msg["value"] = msg["value"].as_subclass(self.mark)


class _Drawn(Tensor):
    """A tensor whose type every operation passes on to its results; what reads its numbers into Python is written down."""

    reads: list[str]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in _READING:
            cls.reads.append(func.__name__)
        return super().__torch_function__(func, types, args, kwargs or {})


_READING = {
    *("__bool__", "__int__", "__float__", "__complex__", "__index__", "__contains__", "item", "tolist", "numpy"),
    *("__array__", "equal", "allclose", "is_nonzero"),
}
