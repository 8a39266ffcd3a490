"""Log-weights of many points and draws in pieces that fit the device: batches of points, blocks of draws, chunks of blocks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from .components import Indexed
from .drawing import blocks, drawn_apart, narrowed
from .errors import Refusal
from .running import Program, scoring
from .streaming import Running
from .structure import Structure, observed_sites
from .unfinished import Done
from .weights import model_density, refuse_no_number, run_model

# Numbers of x in a block: enough to keep a matrix product busy, few enough for caches; and rows, where x has few numbers.
NUMBERS = {"cpu": 2**21, "cuda": 2**27}
ROWS = {"cpu": 2**15, "cuda": 2**20}
# Where x|z is picked from a table that is computed once for all draws (`Indexed`), a draw is one number.
TABLE_ROWS = 2**16
DRAWS = 500  # to a block at most, unless there are too few points to fill one


def rows_at_once(x: Tensor) -> int:
    """Draws times points that keep this device busy."""
    kind = x.device.type if x.device.type in NUMBERS else "cpu"
    return max(1, min(NUMBERS[kind] // x[0].numel(), ROWS[kind]))


@dataclass(frozen=True)
class Geometry:
    """How the noise is laid out: `batch` points by `draws` draws to a block.

    A batch has a stream of random numbers of its own, of (seed, its first point), and takes its blocks from it in order. So
    what a point's draws are follows from the seed, the number of points and of samples, and the kind of device; how much of
    a block is scored at once changes nothing of it. Blocks are large because a draw is dear to start, and bounded, so that
    memory is the same for any number of samples.
    """

    batch: int
    draws: int

    @staticmethod
    def of(x: Tensor, samples: int, structure: Structure, per_point: bool) -> "Geometry":
        """For points that cannot be split (`per_point`) the batch is all of them."""
        rows = rows_at_once(x)
        if all(isinstance(site["fn"], Indexed) for site in observed_sites(structure.model_trace)):
            rows = max(rows, TABLE_ROWS)
        batch = len(x) if per_point else min(len(x), max(1, rows // min(samples, DRAWS)))
        most = min(samples, max(1, rows // batch))
        return Geometry(batch, -(-samples // -(-samples // most)))  # blocks of one size, as nearly as can be


def score(
    model: Program,
    guide: Program,
    x: Tensor,
    samples: int,
    seed: int,
    structure: Structure,
    per_point: bool,
    rows: int | None,
    done: Done,
    progress: Callable[[int], None] | None,
) -> dict[str, Tensor]:
    """What `Running.statistics` says of all points, on the CPU; those that `done` holds are not scored again.

    Out of memory, the chunk is halved and its block goes on. Where a block's latents alone are too much, or one draw of every
    point of the batch, the batch is halved, or, of points that cannot be split, the block: the noise of the points to come
    is then another.
    """
    geometry = Geometry.of(x, samples, structure, per_point)
    scorer = Scorer(model, structure.nesting, rows)
    with scoring(model, guide):
        apart = drawn_apart(guide, x[: geometry.batch])
        if progress is not None and done.points:
            progress(done.points)
        while done.points < len(x):
            points = x[done.points : done.points + geometry.batch]
            torch.manual_seed(stream(seed, done.points))
            drawn = blocks(guide, points, geometry.draws, structure.nesting, apart)
            try:
                found = _batch(points, samples, drawn, scorer, done.points)
            except torch.OutOfMemoryError as error:
                found = None
                geometry = _smaller(geometry, len(points), per_point, error)
            if found is None:  # outside of the handler, whose traceback holds on to the memory
                _free(x.device)
                continue
            done.add(found, len(points))
            if progress is not None:
                progress(len(points))
    return done.statistics()


def stream(seed: int, first: int) -> int:
    """The seed of the batch whose first point is `first`: 64 bits that look like no other batch's."""
    return int(np.random.SeedSequence([seed, first]).generate_state(1, np.uint64)[0])


class Scorer:
    """log w of blocks of draws, in chunks of at most `rows` draws times points (None: a block at once); fewer, once they have
    proved too many for the device."""

    def __init__(self, model: Program, nesting: int, rows: int | None):
        self.model, self.nesting, self.rows = model, nesting, rows

    def __call__(self, x: Tensor, q: poutine.Trace, log_q: Tensor, draws: int, first: int) -> Tensor:
        """The first `draws` of a block, (draws, N); `first` is the place of x's first point among all."""
        parts: list[Tensor] = []
        start = 0
        while start < draws:
            length = min(draws - start, max(1, (self.rows or draws * len(x)) // len(x)))
            part = self._if_it_fits(x, q, log_q, start, length, first)
            if part is not None:
                parts.append(part)
                start += length
        return torch.cat(parts)

    def _if_it_fits(
        self, x: Tensor, q: poutine.Trace, log_q: Tensor, start: int, length: int, first: int
    ) -> Tensor | None:
        try:
            return self._chunk(x, q, log_q, start, length, first)
        except torch.OutOfMemoryError:
            if length == 1:
                raise
        self.rows = length // 2 * len(x)
        _free(x.device)  # outside of the handler, whose traceback holds on to the memory
        return None

    def _chunk(self, x: Tensor, q: poutine.Trace, log_q: Tensor, start: int, length: int, first: int) -> Tensor:
        if (start, length) != (0, len(log_q)):
            q = narrowed(q, start, length, self.nesting)
            log_q = log_q[start : start + length] if log_q.dim() else log_q
        p = run_model(self.model, x, q, length, self.nesting)
        log_p = model_density(p, len(x), length, self.nesting)
        refuse_no_number(q, p, log_q, log_p, first)
        return log_p - log_q


def _batch(
    x: Tensor, samples: int, drawn: Iterator[tuple[poutine.Trace, Tensor]], scorer: Scorer, first: int
) -> dict[str, Tensor]:
    running = Running(samples, len(x), x.device)
    left = samples
    while left:
        q, log_q = next(drawn)
        draws = min(left, len(log_q))  # of the last block, as many as are asked for
        running.add(scorer(x, q, log_q, draws, first))
        left -= draws
    zero = running.largest[0] == -torch.inf
    if bool(zero.any()):
        raise Refusal(
            f"All {samples} weights of data point {first + int(zero.nonzero()[0])} are zero: the model gives that point no "
            "probability together with any draw of the guide; take a guide that reaches where the model has some, more "
            "samples, or leave the point out."
        )
    return {name: value.cpu() for name, value in running.statistics().items()}


def _smaller(geometry: Geometry, points: int, per_point: bool, error: torch.OutOfMemoryError) -> Geometry:
    if points > 1 and not per_point:
        return replace(geometry, batch=points // 2)
    if geometry.draws > 1:
        return replace(geometry, draws=geometry.draws // 2)
    raise error


def _free(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
