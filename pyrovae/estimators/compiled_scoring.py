"""Blocks of weights, by a recording where the work is worth one, and where it does what Pyro's own run does."""

import contextlib
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..pair.execution import ModelOrGuide
from .compiled_log_weights import CompiledLogWeights, LogDensities

SOME = 4  # draws of a block, by which a recording is held against Pyro's run
WORTH = 1e12  # floating-point operations, seconds of a few cores: compiling takes as long


class DrawBlock(NamedTuple):
    """Draws of a batch of points, to be scored: `log_q` where it is known, and the place of the first point among all."""

    x: Tensor
    q: poutine.Trace
    log_q: Tensor | None
    draws: int
    first: int


class CompiledScorer:
    """A recording where the work is worth one, or Pyro's own run: for the blocks of one evaluation, `count` of them.

    `compile` is whether to record, None: where a block's operations times `count` are worth it. A recording is held against
    Pyro's run on a block that it was not made from, and again on the first block of other points; it must agree to a
    thousand units of rounding (of bfloat16, to some hundredths). Pairs that cannot be recorded, because they read numbers into
    Python, and machines without a compiler do without.
    """

    def __init__(
        self, model: ModelOrGuide, max_plate_nesting: int, dtype: torch.dtype | None, compile: bool | None, count: int
    ):
        self.model, self.max_plate_nesting, self.dtype, self.compile, self.count = (
            model,
            max_plate_nesting,
            dtype,
            compile,
            count,
        )
        self.recorded: CompiledLogWeights | None = None
        self.quick = False  # whether the last block was scored by it
        self.fresh = False
        self.seen: list[int] = []  # the batches, by their first points, on which it was held against Pyro's run

    def __call__(self, block: DrawBlock, slowly: Callable[[int], LogDensities]) -> LogDensities:
        """`slowly` is Pyro's own run, of as many of the block's draws as it is told."""
        found = None
        if self.compile is None:
            with FlopCounterMode(display=False) as counter:
                found = slowly(block.draws)
            self.compile = counter.get_total_flops() * self.count > WORTH
        quick = self._by_recording(block, slowly, found) if self.compile else None
        self.quick = quick is not None
        if quick is not None:  # of the first block too, so that all have low precision's errors of one kind
            return quick
        return slowly(block.draws) if found is None else found

    def _by_recording(
        self, block: DrawBlock, slowly: Callable[[int], LogDensities], found: LogDensities | None
    ) -> LogDensities | None:
        """None where there is no recording that does what Pyro's run does; `found` is that run, where there was one."""
        if self.recorded is None:
            self.recorded = _kept(self.model, block, self.dtype)
        if self.recorded is not None:
            quick = self.recorded(block.x, block.q, block.log_q)
            if quick is None or block.first in self.seen or len(self.seen) == 2:
                return quick
            self.seen.append(block.first)
            if _are_one(quick, slowly(min(SOME, block.draws)), self.dtype):
                return quick
            self.recorded, self.seen = None, []
            _forget(self.model)
            if self.fresh:
                self.compile = False
                return None
        quick = self._record(block, slowly(block.draws) if found is None else found)
        self.compile = self.fresh = quick is not None
        return quick

    def _record(self, block: DrawBlock, slow: LogDensities) -> LogDensities | None:
        """The block's weights by a new recording; None where there can be none, or they are not Pyro's."""
        try:
            recorded = CompiledLogWeights(
                self.model, block.x, block.q, block.log_q, block.draws, self.max_plate_nesting, self.dtype
            )
            found = recorded(block.x, block.q, block.log_q)
        except torch.OutOfMemoryError:
            raise
        except Exception:
            return None
        if found is None or not _are_one(found, slow, self.dtype):
            return None
        self.recorded = recorded
        with contextlib.suppress(TypeError):  # not everything that can be called can be referred to weakly
            _every.setdefault(self.model, []).append((self.dtype, recorded))
        return found


def _are_one(quick: LogDensities, slow: LogDensities, dtype: torch.dtype | None) -> bool:
    """Whether a block's first weights are Pyro's; log q, which low precision leaves alone, to rounding of its own type."""
    kinds = (dtype, None)
    return all(_agree(one[: len(other)], other, kind) for one, other, kind in zip(quick, slow, kinds, strict=True))


def _agree(one: Tensor, other: Tensor, dtype: torch.dtype | None) -> bool:
    units = 1024 * torch.finfo(other.dtype).eps if dtype is None else 8 * torch.finfo(dtype).eps
    zero = other == -torch.inf
    close = (one - other).abs() <= units * (1 + other[~zero].abs().max()) if not bool(zero.all()) else zero
    return bool((close | (zero & (one == -torch.inf))).all())


# A model's recordings live as long as it does: it may be scored many times, while it trains for one. A model that has changed
# in Python meanwhile is found out at the first block, and forgotten.
_every: weakref.WeakKeyDictionary[Any, list[tuple[torch.dtype | None, CompiledLogWeights]]] = (
    weakref.WeakKeyDictionary()
)


def _kept(model: ModelOrGuide, block: DrawBlock, dtype: torch.dtype | None) -> CompiledLogWeights | None:
    try:
        every = _every.get(model, [])
    except TypeError:
        return None
    x, q, log_q, draws, _ = block
    return next((found for kind, found in every if kind == dtype and found.fits(x, q, log_q, draws)), None)


def _forget(model: ModelOrGuide) -> None:
    with contextlib.suppress(TypeError):
        _every.pop(model, None)
