"""Log-weights of many points and draws in pieces that fit the device: batches of points, blocks of draws, chunks of blocks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from ..distributions.indexed import Indexed
from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide, isolated_parameters
from ..pair.importance_weights import check_finite, guide_density, model_density, run_model
from ..pair.sites import observed_sites
from ..pair.structure import Structure
from ..statistics.streaming import StreamingStatistics
from ..utils.distributed import ProcessGroup
from ..utils.precision import precision
from .compiled_log_weights import LogDensities
from .compiled_scoring import CompiledScorer, DrawBlock
from .guide_draws import blocks, independent_sites, narrowed
from .low_precision import MAY_ERR, LowPrecisionCorrection
from .partial_results import PartialResults

# Numbers of x in a block: enough to keep a matrix product busy, few enough for caches; and rows, where x has few numbers.
NUMBERS = {"cpu": 2**23, "cuda": 2**27}
EAGER = {"cpu": 2**21, "cuda": 2**27}  # in a chunk of Pyro's own run, which keeps every step of the arithmetic
ROWS = {"cpu": 2**15, "cuda": 2**20}
# Where x|z is picked from a table that is computed once for all draws (`Indexed`), a draw is one number.
TABLE_ROWS = 2**16
DRAWS = 500  # to a block at most, unless there are too few points to fill one


def rows_at_once(x: Tensor) -> int:
    """Draws times points that keep this device busy."""
    kind = x.device.type if x.device.type in NUMBERS else "cpu"
    return max(1, min(_most(NUMBERS, x), ROWS[kind]))


def _most(numbers: dict[str, int], x: Tensor) -> int:
    """Rows of x that have so many numbers."""
    return numbers.get(x.device.type, numbers["cpu"]) // x[0].numel()


@dataclass(frozen=True)
class BatchLayout:
    """How the noise is laid out: `batch` points by `draws` draws to a block.

    A batch has a stream of random numbers of its own, of (seed, its first point), and takes its blocks from it in order. So
    what a point's draws are follows from the seed, the number of points and of samples, and the kind of device; how much of
    a block is scored at once changes nothing of it. Blocks are large because a draw is dear to start, and bounded, so that
    memory is the same for any number of samples.
    """

    batch: int
    draws: int

    @staticmethod
    def of(x: Tensor, num_samples: int, structure: Structure, per_point: bool) -> "BatchLayout":
        """For points that cannot be split (`per_point`) the batch is all of them."""
        rows = rows_at_once(x)
        if all(isinstance(site["fn"], Indexed) for site in observed_sites(structure.model_trace)):
            rows = max(rows, TABLE_ROWS)
        batch = len(x) if per_point else min(len(x), max(1, rows // min(num_samples, DRAWS)))
        most = min(num_samples, max(1, rows // batch))
        return BatchLayout(batch, -(-num_samples // -(-num_samples // most)))  # blocks of one size, as nearly as can be

    def blocks(self, points: int, num_samples: int) -> int:
        """How many there are in all."""
        return -(-points // self.batch) * -(-num_samples // self.draws)


@dataclass(frozen=True)
class ScoringOptions:
    """How the weights are computed: what `evaluate` says of its arguments of these names."""

    chunk_size: int | None = None
    low_precision: torch.dtype | None = None
    compile: bool | None = None


def score(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    num_samples: int,
    seed: int,
    structure: Structure,
    per_point: bool,
    how: ScoringOptions,
    done: PartialResults,
    on_progress: Callable[[int], None] | None,
) -> dict[str, Tensor]:
    """What `StreamingStatistics.statistics` says of all points, on the CPU; those that `done` holds are not scored again. Processes of a
    group score whole batches each, and all have the result.

    Out of memory, the chunk is halved and its block goes on. Where a block's latents alone are too much, or one draw of every
    point of the batch, the batch is halved, or, of points that cannot be split, the block: the noise of the points to come
    is then another.
    """
    geometry, ranks = BatchLayout.of(x, num_samples, structure, per_point), ProcessGroup()
    share = ranks.share(-(-len(x) // geometry.batch))  # of the batches, each with noise of its own
    done.skip_to(share.start * geometry.batch)
    last = min(len(x), share.stop * geometry.batch)
    scorer = Scorer(model, structure.max_plate_nesting, how, geometry.blocks(max(0, last - done.points), num_samples))
    with isolated_parameters(model, guide):
        independent = independent_sites(guide, x[: geometry.batch])
        if on_progress is not None and done.points:
            on_progress(done.points)
        while done.points < last:
            points = x[done.points : min(last, done.points + geometry.batch)].contiguous()  # strides are recorded too
            try:
                found = None
                for low_precision in (how.low_precision, None) if how.low_precision is not None else (None,):
                    if found is None:  # a screen that is not good enough is as if it had not been
                        torch.manual_seed(stream(seed, done.points))
                        drawn = blocks(guide, points, geometry.draws, structure.max_plate_nesting, independent)
                        found = _batch(points, num_samples, geometry.draws, drawn, scorer, done.points, low_precision)
            except torch.OutOfMemoryError as error:
                found = None
                geometry = _smaller(geometry, len(points), per_point, error)
                scorer.forget()
            if found is None:  # outside of the handler, whose traceback holds on to the memory
                _free(x.device)
                continue
            done.add(found, len(points))
            if on_progress is not None:
                on_progress(len(points))
    return ranks.gather(done.statistics())


def stream(seed: int, first: int) -> int:
    """The seed of the batch whose first point is `first`: 64 bits that look like no other batch's."""
    return int(np.random.SeedSequence([seed, first]).generate_state(1, np.uint64)[0])


class Scorer:
    """log w of blocks of draws, in chunks of at most `chunk_size` draws times points (None: `EAGER`); fewer, once they have
    proved too many for the device. Whole blocks by a recording, where the work is worth one."""

    def __init__(self, model: ModelOrGuide, max_plate_nesting: int, how: ScoringOptions, count: int):
        self.model, self.max_plate_nesting, self.chunk_size = model, max_plate_nesting, how.chunk_size
        self.quick = False  # whether the last block was scored by a recording
        self.blocks = {
            dtype: CompiledScorer(model, max_plate_nesting, dtype, how.compile, count)
            for dtype in {None, how.low_precision}
        }
        self.again = CompiledScorer(model, max_plate_nesting, None, how.compile, count)  # what a screen has left over

    def __call__(
        self, x: Tensor, q: poutine.Trace, size: int, draws: int, first: int, dtype: torch.dtype | None
    ) -> LogDensities:
        """The first `draws` of a block of `size`; `first` is the place of x's first point among all; matrix products in
        `dtype`."""

        def slowly(some: int) -> LogDensities:
            some = min(some, draws)
            log_q = guide_density(q, x, size, self.max_plate_nesting)
            return self._in_chunks(x, q, log_q, some, first, dtype), log_q[:some]

        log_w, log_q = self._fast(self.blocks[dtype], DrawBlock(x, q, None, size, first), slowly)
        return log_w[:draws], log_q[:draws]

    def forget(self) -> None:
        """Blocks will be of another shape."""
        for fast in (*self.blocks.values(), self.again):
            fast.recorded = None

    def exactly(self, x: Tensor, q: poutine.Trace, log_q: Tensor, first: int) -> Tensor:
        """The draws of q, whose log-densities are known, in full precision: log w."""

        def slowly(some: int) -> LogDensities:
            return self._in_chunks(x, q, log_q, some, first, None), log_q

        return self._fast(self.again, DrawBlock(x, q, log_q, len(log_q), first), slowly)[0]

    def _fast(self, fast: CompiledScorer, block: DrawBlock, slowly: Callable[[int], LogDensities]) -> LogDensities:
        """Chunks are Pyro's own to run: a recording knows whole blocks."""
        self.quick = False
        if self.chunk_size is None:
            try:
                found = fast(block, slowly)
                self.quick = fast.quick
                return found
            except torch.OutOfMemoryError:
                if block.draws == 1:
                    raise
            self.chunk_size = block.draws // 2 * len(block.x)
            _free(block.x.device)
        return slowly(block.draws)

    def _in_chunks(
        self, x: Tensor, q: poutine.Trace, log_q: Tensor, draws: int, first: int, dtype: torch.dtype | None
    ) -> Tensor:
        parts: list[Tensor] = []
        start = 0
        while start < draws:
            rows = self.chunk_size or _most(EAGER, x)
            length = min(draws - start, max(1, rows // len(x)))
            part = self._if_it_fits(x, q, log_q, start, length, first, dtype)
            if part is not None:
                parts.append(part)
                start += length
        return torch.cat(parts)

    def _if_it_fits(
        self, x: Tensor, q: poutine.Trace, log_q: Tensor, start: int, length: int, first: int, dtype: torch.dtype | None
    ) -> Tensor | None:
        try:
            return self._chunk(x, q, log_q, start, length, first, dtype)
        except torch.OutOfMemoryError:
            if length == 1:
                raise
        self.chunk_size = length // 2 * len(x)
        _free(x.device)  # outside of the handler, whose traceback holds on to the memory
        return None

    def _chunk(
        self, x: Tensor, q: poutine.Trace, log_q: Tensor, start: int, length: int, first: int, dtype: torch.dtype | None
    ) -> Tensor:
        if length < len(log_q):
            q, log_q = narrowed(q, start, length, self.max_plate_nesting), log_q[start : start + length]
        with precision(x.device, dtype):
            p = run_model(self.model, x, q, length, self.max_plate_nesting)
            log_p = model_density(p, len(x), length, self.max_plate_nesting)
        check_finite(q, p, log_q, log_p, first)
        return (log_p - log_q).to(x.dtype)


def _batch(
    x: Tensor,
    num_samples: int,
    size: int,
    drawn: Iterator[poutine.Trace],
    scorer: Scorer,
    first: int,
    low_precision: torch.dtype | None,
) -> dict[str, Tensor] | None:
    """None where a screen leaves more of an error than it may."""
    running = StreamingStatistics(num_samples, len(x), x.device)
    screened = LowPrecisionCorrection(scorer.max_plate_nesting) if low_precision is not None else None
    left, roads = num_samples, set()
    while left:
        q = next(drawn)
        draws = min(left, size)  # of the last block, as many as are asked for
        log_w, log_q = scorer(x, q, size, draws, first, low_precision)
        roads.add(scorer.quick)
        order = running.add(log_w)
        if screened is not None:
            screened.add(q, log_w, log_q, order)
        left -= draws
    if screened is not None:
        error = screened.correct(running, lambda q, log_q: scorer.exactly(x, q, log_q, first))
        # recorded, low precision errs in another way than in Pyro's run, and the controls have seen one of them
        if len(roads) == 2 or bool((error > MAY_ERR).any()):
            return None
    zero = (running.largest == -torch.inf).all(dim=0)
    if bool(zero.any()):
        raise InvalidInputError(
            f"All {num_samples} weights of data point {first + int(zero.nonzero()[0])} are zero: the model gives that point no "
            "probability together with any draw of the guide; take a guide that reaches where the model has some, more "
            "samples, or leave the point out."
        )
    return {name: value.cpu() for name, value in running.statistics().items()}


def _smaller(geometry: BatchLayout, points: int, per_point: bool, error: torch.OutOfMemoryError) -> BatchLayout:
    if points > 1 and not per_point:
        return replace(geometry, batch=points // 2)
    if geometry.draws > 1:
        return replace(geometry, draws=geometry.draws // 2)
    raise error


def _free(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
