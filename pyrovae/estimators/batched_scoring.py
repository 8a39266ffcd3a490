"""Log-weights of many points and draws in pieces that fit the device: batches of points, blocks of draws, chunks of blocks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from pyro import poutine
from torch import Tensor

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide, isolated_parameters
from ..pair.importance_weights import check_finite, guide_density, model_density, run_model
from ..pair.structure import Structure
from ..statistics.streaming import StreamingStatistics
from ..utils.distributed import ProcessGroup, concatenated
from ..utils.memory import unless_out_of_memory
from ..utils.precision import autocast_to
from ..utils.random import derived_seed
from .batch_layout import BatchLayout, rows_of
from .compiled_log_weights import LogDensities
from .compiled_scoring import CompiledScorer, DrawBlock
from .guide_draws import blocks, independent_sites, narrowed
from .low_precision import MAX_SE_NATS, LowPrecisionCorrection
from .partial_results import PartialResults

# Elements of x in a chunk of Pyro's own run, which keeps every step of the arithmetic. On a CPU, as many as its cache holds.
EAGER_CHUNK_ELEMENTS = {"cpu": 2**19, "cuda": 2**27}


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
    options: ScoringOptions,
    partial: PartialResults,
    on_progress: Callable[[int], None] | None,
) -> dict[str, Tensor]:
    """Return `StreamingStatistics.statistics` of all points, on the CPU; those that `partial` has are not scored again.

    Processes of a group score whole batches each, and all have the result.

    Out of memory, the chunk is halved and its block goes on. If the latents of a block, or one draw of every point of
    the batch, are still too much, the batch is halved. If the points cannot be split, the block is halved instead.
    The noise of the remaining points then differs.
    """
    layout, ranks = BatchLayout.of(x, num_samples, structure, per_point), ProcessGroup()
    batches = ranks.share(-(-len(x) // layout.batch))  # each with noise of its own
    partial.skip_to(batches.start * layout.batch)
    last = min(len(x), batches.stop * layout.batch)
    num_blocks = layout.num_blocks(max(0, last - partial.points), num_samples)
    scorer = Scorer(model, structure.max_plate_nesting, options, num_blocks)

    def score_points(points: Tensor, first: int, size: int, independent: bool) -> dict[str, Tensor]:
        for dtype in (options.low_precision, None):
            torch.manual_seed(derived_seed(seed, first))
            draws = blocks(guide, points, size, structure.max_plate_nesting, independent)
            statistics = score_batch(points, num_samples, size, draws, scorer, first, dtype)
            if statistics is not None:  # else low precision is not good enough for these points
                return statistics
        raise AssertionError("full precision always has a result")

    def own_part() -> dict[str, Tensor]:
        nonlocal layout
        if on_progress is not None and partial.points > batches.start * layout.batch:
            on_progress(partial.points - batches.start * layout.batch)
        while partial.points < last:
            first = partial.points
            points = x[first : min(last, first + layout.batch)].contiguous()  # strides are compiled in too
            divisible = layout.is_divisible(len(points), per_point)
            arguments = (points, first, layout.draws, independent)
            statistics = unless_out_of_memory(score_points, *arguments, device=x.device, divisible=divisible)
            if statistics is None:
                layout = layout.halved(len(points), per_point)
                scorer.forget()
                continue
            partial.add(statistics, len(points))
            if on_progress is not None:
                on_progress(len(points))
        return partial.statistics()

    with isolated_parameters(model, guide):
        independent = independent_sites(guide, x[: layout.batch])
        return concatenated(ranks.collect(own_part))


class Scorer:
    """Computes log w of blocks of draws, in chunks of at most `chunk_size` draws times points.

    Chunks become smaller once they have proved too large for the device. Whole blocks use a compiled graph, if that
    pays off.
    """

    def __init__(self, model: ModelOrGuide, max_plate_nesting: int, options: ScoringOptions, num_blocks: int):
        self.model, self.max_plate_nesting, self.chunk_size = model, max_plate_nesting, options.chunk_size
        self.is_compiled = False  # whether a graph scored the last block
        self.by_dtype = {
            dtype: CompiledScorer(model, max_plate_nesting, dtype, options.compile, num_blocks)
            for dtype in {None, options.low_precision}
        }
        # for draws that low precision has scored, and full precision scores again
        self.full = CompiledScorer(model, max_plate_nesting, None, options.compile, num_blocks)

    def __call__(
        self, x: Tensor, q: poutine.Trace, size: int, draws: int, first: int, dtype: torch.dtype | None
    ) -> LogDensities:
        """Compute log w of the first `draws` of a block of `size`, with matrix products in `dtype`.

        `first` is the index of the first point of x among all.
        """

        def eager(count: int) -> LogDensities:
            count = min(count, draws)
            log_q = guide_density(q, x, size, self.max_plate_nesting)
            return self._in_chunks(DrawBlock(x, q, log_q, size, first), count, dtype), log_q[:count]

        log_w, log_q = self._score(self.by_dtype[dtype], DrawBlock(x, q, None, size, first), eager)
        return log_w[:draws], log_q[:draws]

    def forget(self) -> None:
        """Blocks will be of another shape."""
        for scorer in (*self.by_dtype.values(), self.full):
            scorer.graph = None

    def in_full_precision(self, x: Tensor, q: poutine.Trace, log_q: Tensor, first: int) -> Tensor:
        """log w of the draws of q, whose log-densities are known."""
        block = DrawBlock(x, q, log_q, len(log_q), first)

        def eager(count: int) -> LogDensities:
            return self._in_chunks(block, count, None), log_q

        return self._score(self.full, block, eager)[0]

    def _score(self, scorer: CompiledScorer, block: DrawBlock, eager: Callable[[int], LogDensities]) -> LogDensities:
        """Only the eager run can be split into chunks: a graph scores whole blocks."""
        self.is_compiled = False
        if self.chunk_size is None:
            densities = unless_out_of_memory(scorer, block, eager, device=block.x.device, divisible=block.draws > 1)
            if densities is not None:
                self.is_compiled = scorer.is_compiled
                return densities
            self.chunk_size = block.draws // 2 * len(block.x)
        return eager(block.draws)

    def _in_chunks(self, block: DrawBlock, draws: int, dtype: torch.dtype | None) -> Tensor:
        parts: list[Tensor] = []
        start, x = 0, block.x
        while start < draws:
            rows = self.chunk_size or rows_of(EAGER_CHUNK_ELEMENTS, x)
            length = min(draws - start, max(1, rows // len(x)))
            part = unless_out_of_memory(self._chunk, block, start, length, dtype, device=x.device, divisible=length > 1)
            if part is None:
                self.chunk_size = length // 2 * len(x)
            else:
                parts.append(part)
                start += length
        return torch.cat(parts)

    def _chunk(self, block: DrawBlock, start: int, length: int, dtype: torch.dtype | None) -> Tensor:
        x, q, log_q, _, first = block
        assert log_q is not None
        if length < len(log_q):
            q, log_q = narrowed(q, start, length, self.max_plate_nesting), log_q[start : start + length]
        with autocast_to(x.device, dtype):
            p = run_model(self.model, x, q, length, self.max_plate_nesting)
            log_p = model_density(p, len(x), length, self.max_plate_nesting)
        check_finite(q, p, log_q, log_p, first)
        return (log_p - log_q).to(x.dtype)


def score_batch(
    x: Tensor,
    num_samples: int,
    size: int,
    drawn: Iterator[poutine.Trace],
    scorer: Scorer,
    first: int,
    low_precision: torch.dtype | None,
) -> dict[str, Tensor] | None:
    """The statistics of one batch of points; None where low precision leaves more of an error than it may."""
    running = StreamingStatistics(num_samples, len(x), x.device)
    correction = LowPrecisionCorrection(scorer.max_plate_nesting) if low_precision is not None else None
    left, executions = num_samples, set()
    while left:
        q = next(drawn)
        draws = min(left, size)  # of the last block, as many as are asked for
        log_w, log_q = scorer(x, q, size, draws, first, low_precision)
        executions.add(scorer.is_compiled)
        order = running.add(log_w)
        if correction is not None:
            correction.add(q, log_w, log_q, order)
        left -= draws
    if correction is not None:
        error = correction.correct(running, lambda q, log_q: scorer.in_full_precision(x, q, log_q, first))
        # the errors of a graph differ from those of Pyro's run, and the controls have seen only one of them
        if len(executions) == 2 or bool((error > MAX_SE_NATS).any()):
            return None
    zero = (running.largest == -torch.inf).all(dim=0)
    if bool(zero.any()):
        raise InvalidInputError(
            f"All {num_samples} weights of data point {first + int(zero.nonzero()[0])} are zero: the model gives that point no "
            "probability together with any draw of the guide; take a guide that reaches where the model has some, more "
            "samples, or leave the point out."
        )
    return {name: value.cpu() for name, value in running.statistics().items()}
