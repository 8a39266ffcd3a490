"""Weights in low precision first, and what matters of them again in full: the largest, and a few by which to correct the rest."""

import math
from collections.abc import Callable

import torch
from pyro import poutine
from torch import Tensor

from .drawing import narrowed, with_values
from .running import sites
from .streaming import Running
from .structure import point_dim

CONTROLS = 64  # draws of each point that are scored both ways


class Screened:
    """The draws of a batch that are to be scored again: those of the largest weights, and the first of all, the controls."""

    def __init__(self, nesting: int):
        self.nesting = nesting
        self.kept: list[Tensor] = []  # values and log q of the draws that `Running` keeps, (kept, N, ...)
        self.controls: list[Tensor] = []
        self.first: poutine.Trace | None = None
        self.rough: Tensor | None = None  # log w of the controls, in low precision

    def add(self, q: poutine.Trace, log_w: Tensor, log_q: Tensor, order: Tensor) -> None:
        """A block of draws, and which rows of [those kept so far; these] are kept now, (kept, N)."""
        new = [*self._values(q, len(log_w)), log_q]
        if self.first is None:
            self.first, self.rough = narrowed(q, 0, 1, self.nesting), log_w[:CONTROLS].double()
            self.controls = [value[:CONTROLS].clone() for value in new]
            both = new
        else:
            both = [torch.cat(pair) for pair in zip(self.kept, new, strict=True)]
        self.kept = [value.gather(0, _like(order, value)) for value in both]

    def correct(self, running: Running, exactly: Callable[[poutine.Trace, Tensor], Tensor]) -> None:
        """The kept weights become exact; all others are shifted by what the controls say of the error of low precision: on
        average of log w for the ELBO, of w for their sum."""
        assert self.first is not None and self.rough is not None
        *values, log_q = [torch.cat(pair) for pair in zip(self.kept, self.controls, strict=True)]
        log_w = exactly(self._run(values), log_q).double()
        largest, controls = log_w[: len(running.largest)], log_w[len(running.largest) :]
        error = torch.where(controls > -torch.inf, controls - self.rough, 0.0).nan_to_num(posinf=0.0)
        running.correct(largest, torch.logsumexp(error, dim=0) - math.log(len(error)), error.mean(dim=0))

    def _values(self, q: poutine.Trace, draws: int) -> list[Tensor]:
        """Each latent's values with draws and points in front, (draws, N, ...)."""
        return [site["value"].movedim(self._axes(site), (0, 1))[:draws] for site in sites(q)]

    def _run(self, values: list[Tensor]) -> poutine.Trace:
        assert self.first is not None
        found = zip(sites(self.first), values, strict=True)
        return with_values(
            self.first, {site["name"]: value.movedim((0, 1), self._axes(site)).contiguous() for site, value in found}
        )

    def _axes(self, site: dict) -> tuple[int, int]:
        batch = site["value"].dim() - site["fn"].event_dim
        return batch - 1 - self.nesting, batch + point_dim(site)


def _like(order: Tensor, value: Tensor) -> Tensor:
    return order.reshape(*order.shape, *(1 for _ in value.shape[2:])).expand(*order.shape, *value.shape[2:])
