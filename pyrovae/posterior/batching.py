"""For computations that move latents: chunks of points that fit the memory, checks of their settings, progress."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import check_int
from ..pair.execution import ModelOrGuide
from ..pair.parameters import is_per_point
from ..utils.distributed import ProcessGroup
from ..utils.memory import unless_out_of_memory
from ..utils.random import derived_seed, fork_rng
from .joint_density import Joint

CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**27}  # of x at once, as many as fill a matrix product
MIN_CHUNK_DRAWS = 32  # that a chunk of points is sized for: a search for modes has many starts
MIN_CHUNK_ROWS = 2048  # draws times points, where x is large
CACHED_ELEMENTS = {"cpu": 2**19}  # of x, for which the layers of a decoder still lie in the processor's cache
MAX_BLOCK_ROWS = 2**15  # draws times points at once
MIN_BLOCK_DRAWS = 64  # so that the prior has its share of every block, to a whole number of draws

Result = TypeVar("Result")


def in_chunks(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, draws: int, work: Callable[[Joint, int], Result]
) -> list[Result]:
    """Return `work(joint, start)` for each chunk of points, `start` being the index of the chunk's first point.

    A chunk has so many points that `draws` rows of each fit the memory. Where they do not, the chunk is halved. A guide with
    parameters for each point takes all points at once.
    """
    whole = is_per_point(guide, x)
    return in_chunks_of(
        x,
        len(x) if whole else chunk_points(x, draws),
        lambda points, start: work(Joint(model, guide, points), start),
        whole,
    )


def chunk_points(x: Tensor, draws: int) -> int:
    """How many points go into a chunk with so many draws of each."""
    rows = max(MIN_CHUNK_ROWS, CHUNK_ELEMENTS.get(x.device.type, 2**20) // x[0].numel())
    return max(1, rows // draws)


def in_chunks_of(x: Tensor, chunk: int, work: Callable[[Tensor, int], Result], whole: bool) -> list[Result]:
    """Return `work(points, start)` for each chunk of `chunk` points.

    Processes of a group share the chunks, and all have every result. The random numbers of a chunk follow from the
    random state and its first point, so that they are the same in any group. Where memory runs out a chunk is halved,
    unless the points go together, as a `whole`.
    """
    with fork_rng(x.device):
        seed = int(torch.randint(2**62, ()))
    group = ProcessGroup()
    own = group.share(-(-len(x) // chunk))
    last = min(len(x), own.stop * chunk)

    def part() -> list[Result]:
        results: list[Result] = []
        start, size = own.start * chunk, chunk
        while start < last:
            points = x[start : min(last, start + size)]
            divisible = len(points) > 1 and not whole
            with fork_rng(x.device, derived_seed(seed, start) if start else None):
                result = unless_out_of_memory(work, points, start, device=x.device, divisible=divisible)
            if result is None:
                size = len(points) // 2
            else:
                results.append(result)
                start += len(points)
        return results

    return [result for results in group.collect(part, x.device) for result in results]


def block_sizes(count: int, points: int) -> list[int]:
    """`count` draws in blocks of almost equal size."""
    blocks = max(1, count // max(MIN_BLOCK_DRAWS, MAX_BLOCK_ROWS // points))
    return [count * (k + 1) // blocks - count * k // blocks for k in range(blocks)]


def over_draws(joint: Joint, function: Callable[[Tensor], tuple[Tensor, ...]], u: Tensor) -> tuple[Tensor, ...]:
    """`function(u)` of draws (draws, N, d), for so many of them at a time as the processor's cache holds. Others take twice as long."""
    elements = CACHED_ELEMENTS.get(u.device.type)
    if elements is None:
        return function(u)
    rows = max(MIN_CHUNK_ROWS, elements // joint.x[0].numel())
    parts = [function(part) for part in u.split(max(1, rows // u.shape[1]))]
    return tuple(torch.cat(values) for values in zip(*parts, strict=True))


def positive_ints(**settings: int) -> dict[str, int]:
    """Return the settings if they are whole numbers, at least 1; of chains and samples at least 2."""
    for name, value in settings.items():
        if name in ("num_chains", "num_samples"):
            check_int(name, value, 2, why=", so that the estimate has an error")
        else:
            check_int(name, value, 1)
    return settings


def chunk_progress(on_progress: Callable[[float], None] | None, points: float) -> Callable[[float], None]:
    """Progress in points done, from the fraction of a chunk's work that is done."""
    return (lambda fraction: on_progress(fraction * points)) if on_progress is not None else (lambda fraction: None)
