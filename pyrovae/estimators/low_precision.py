"""Weights in low precision first, and what matters of them again in full: the largest, and a few by which to correct the rest."""

import math
from collections.abc import Callable

import torch
from pyro import poutine
from torch import Tensor

from ..pair.sites import density_sites, points_axis
from ..statistics.streaming import StreamingStatistics
from .guide_draws import draws_axis, narrowed, with_values

CONTROLS = 128  # draws of each point that are scored both ways
MAY_ERR = 1.25e-3  # nats, a standard error of log p̂ of a point: four of them are the 0.005 that a screen may be off


class LowPrecisionCorrection:
    """The draws of a batch that are to be scored again: those of the largest weights, and the first of all, the controls."""

    def __init__(self, max_plate_nesting: int):
        self.max_plate_nesting = max_plate_nesting
        # values and log q, (draws, N, ...), of the draws that `StreamingStatistics` keeps, and of those that wait there to be ranked
        self.waiting: list[list[Tensor]] = []
        self.controls: list[Tensor] = []
        self.first: poutine.Trace | None = None
        self.rough: Tensor | None = None  # log w of the controls, in low precision

    def add(self, q: poutine.Trace, log_w: Tensor, log_q: Tensor, order: Tensor | None) -> None:
        """A block of draws, and, once some are ranked, which rows of [those kept so far; those added since] are kept now."""
        self.waiting.append([*self._values(q, len(log_w)), log_q])
        if self.first is None:
            self.first, self.rough = narrowed(q, 0, 1, self.max_plate_nesting), log_w[:CONTROLS].double()
            self.controls = [value[:CONTROLS].clone() for value in self.waiting[0]]
        if order is not None:
            self.waiting = [_picked(order, self.waiting)]

    def correct(self, running: StreamingStatistics, exactly: Callable[[poutine.Trace, Tensor], Tensor]) -> Tensor:
        """The kept weights become exact; all others are shifted by what the controls say of the error of low precision: on
        average of log w for the ELBO, of w for their sum.

        Returns what is left of the error in log p̂, (N,), nats: the others' share of the sum, times the error of the shift, which
        has two parts. With s the standard deviation of the error of log w: s/√128, of so many controls; and s², because a draw
        whose weight was found too large is more likely to be among the kept, and not among the others."""
        assert self.rough is not None
        *values, log_q = [torch.cat(pair) for pair in zip(self.waiting[0], self.controls, strict=True)]
        log_w = exactly(self._run(values), log_q).double()
        largest, controls = log_w[: len(running.largest)], log_w[len(running.largest) :]
        error = torch.where(controls > -torch.inf, controls - self.rough, 0.0).nan_to_num(posinf=0.0)
        s = error.std(dim=0) if len(error) > 1 else torch.zeros_like(error[0])
        shift = torch.logsumexp(error, dim=0) - math.log(len(error))
        running.correct(largest, shift, error.mean(dim=0), s / math.sqrt(len(error)))
        return running.body_share() * (s / math.sqrt(len(error)) + s.square())

    def _values(self, q: poutine.Trace, draws: int) -> list[Tensor]:
        """Each latent's values with draws and points in front, (draws, N, ...)."""
        return [site["value"].movedim(self._axes(site), (0, 1))[:draws] for site in density_sites(q)]

    def _run(self, values: list[Tensor]) -> poutine.Trace:
        assert self.first is not None
        found = zip(density_sites(self.first), values, strict=True)
        return with_values(
            self.first, {site["name"]: value.movedim((0, 1), self._axes(site)).contiguous() for site, value in found}
        )

    def _axes(self, site: dict) -> tuple[int, int]:
        return draws_axis(site, self.max_plate_nesting), points_axis(site)


def _picked(order: Tensor, blocks: list[list[Tensor]]) -> list[Tensor]:
    """Of each value the rows `order`, (kept, N), of all blocks together, which are not joined for it: they are large."""
    found = [value.new_empty(*order.shape, *value.shape[2:]) for value in blocks[0]]
    draw, point = order.flatten(), torch.arange(order.shape[1], device=order.device).repeat(len(order))
    start = 0
    for block in blocks:
        end = start + len(block[0])
        here = ((start <= draw) & (draw < end)).nonzero().squeeze(1)
        rows = (draw[here] - start) * order.shape[1] + point[here]
        for whole, part in zip(found, block, strict=True):
            whole.view(-1, *part.shape[2:]).index_copy_(0, here, part.flatten(0, 1).index_select(0, rows))
        start = end
    return found
