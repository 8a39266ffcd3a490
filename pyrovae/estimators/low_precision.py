"""Weights in low precision first, and what matters of them again in full: the largest, and a few by which to correct the rest."""

import math
from collections.abc import Callable

import torch
from pyro import poutine
from torch import Tensor

from ..pair.sites import density_sites, points_axis
from ..statistics.streaming import StreamingStatistics
from .guide_draws import draws_axis, narrowed, with_values

NUM_CONTROLS = 128  # draws of each point that are scored both ways
MAX_SE_NATS = (
    1.25e-3  # standard error of a point's log p̂: four of them are the 0.005 nats that low precision may be off
)


class LowPrecisionCorrection:
    """The draws of a batch that are to be scored again: those of the largest weights, and the first of all, the controls."""

    def __init__(self, max_plate_nesting: int):
        self.max_plate_nesting = max_plate_nesting
        # values and log q, (draws, N, ...), of the draws that `StreamingStatistics` keeps, and of those that wait there to be ranked
        self.waiting: list[list[Tensor]] = []
        self.controls: list[Tensor] = []
        self.first: poutine.Trace | None = None
        self.controls_log_w: Tensor | None = None  # log w of the controls, in low precision

    def add(self, q: poutine.Trace, log_w: Tensor, log_q: Tensor, order: Tensor | None) -> None:
        """A block of draws, and, once some are ranked, which rows of [those kept so far; those added since] are kept now."""
        self.waiting.append([*self._values(q, len(log_w)), log_q])
        if self.first is None:
            self.first, self.controls_log_w = narrowed(q, 0, 1, self.max_plate_nesting), log_w[:NUM_CONTROLS].double()
            self.controls = [value[:NUM_CONTROLS].clone() for value in self.waiting[0]]
        if order is not None:
            self.waiting = [_picked(order, self.waiting)]

    def correct(
        self, running: StreamingStatistics, in_full_precision: Callable[[poutine.Trace, Tensor], Tensor]
    ) -> Tensor:
        """Make the kept weights exact, and shift all others by the error of low precision that the controls show.

        The shift is the mean error of log w for the ELBO, and of w for their sum.

        Returns what is left of the error in log p̂, (N,), nats: the others' share of the sum, times the error of the
        shift. That error has two parts. With s the standard deviation of the error of log w, one is s/√128, of so
        many controls. The other is s², because a draw whose weight was found too large is more likely to be among the
        kept than among the others.
        """
        assert self.controls_log_w is not None
        *values, log_q = [torch.cat(pair) for pair in zip(self.waiting[0], self.controls, strict=True)]
        log_w = in_full_precision(self._run(values), log_q).double()
        largest, controls = log_w[: len(running.largest)], log_w[len(running.largest) :]
        error = torch.where(controls > -torch.inf, controls - self.controls_log_w, 0.0).nan_to_num(posinf=0.0)
        s = error.std(dim=0) if len(error) > 1 else torch.zeros_like(error[0])
        shift = torch.logsumexp(error, dim=0) - math.log(len(error))
        running.correct(largest, shift, error.mean(dim=0), s / math.sqrt(len(error)))
        return running.body_fraction() * (s / math.sqrt(len(error)) + s.square())

    def _values(self, q: poutine.Trace, draws: int) -> list[Tensor]:
        """Each latent's values with draws and points in front, (draws, N, ...)."""
        return [site["value"].movedim(self._axes(site), (0, 1))[:draws] for site in density_sites(q)]

    def _run(self, values: list[Tensor]) -> poutine.Trace:
        assert self.first is not None
        pairs = zip(density_sites(self.first), values, strict=True)
        return with_values(
            self.first, {site["name"]: value.movedim((0, 1), self._axes(site)).contiguous() for site, value in pairs}
        )

    def _axes(self, site: dict) -> tuple[int, int]:
        return draws_axis(site, self.max_plate_nesting), points_axis(site)


def _picked(order: Tensor, blocks: list[list[Tensor]]) -> list[Tensor]:
    """Of each value the rows `order`, (kept, N), of all blocks together, which are not joined for it: they are large."""
    picked = [value.new_empty(*order.shape, *value.shape[2:]) for value in blocks[0]]
    draw, point = order.flatten(), torch.arange(order.shape[1], device=order.device).repeat(len(order))
    start = 0
    for block in blocks:
        end = start + len(block[0])
        here = ((start <= draw) & (draw < end)).nonzero().squeeze(1)
        rows = (draw[here] - start) * order.shape[1] + point[here]
        for whole, part in zip(picked, block, strict=True):
            whole.view(-1, *part.shape[2:]).index_copy_(0, here, part.flatten(0, 1).index_select(0, rows))
        start = end
    return picked
