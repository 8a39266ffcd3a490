"""Points larger than memory, read block by block: slices of a `PointStream` are tensors, as of a tensor of all points."""

import copy
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, default_collate

from ..errors import InvalidInputError
from ..utils.random import derived_seed, fork_rng

BLOCK_ROWS = 256  # points that are read together; so many are kept, and those that a slice asks for


class PointStream:
    """N points (N, ...) that are never all in memory. They are read again whenever they are looked at.

    `read(block)` gives the blocks of `BLOCK_ROWS` points from that block on; those that do not `jump` begin at 0.
    Torch's random state is that of the block while one is read. So a random transform makes the same points each
    time. Points that differ all the same are refused.
    """

    def __init__(
        self,
        read: Callable[[int], Iterator[Tensor]],
        device: torch.device,
        dtype: torch.dtype | None = None,
        *,
        jump: bool = True,
    ):
        self.read, self.device, self.jump = read, device, jump
        self._iterator, self._next, self._last, self._kept = read(0), 0, -1, torch.empty(0)
        first = self._advance()
        if first is None:
            raise InvalidInputError("x has no points: give at least one.")
        self.dtype = dtype or first.dtype
        self._row, self._checksums, count = tuple(first.shape[1:]), [_checksum(first)], len(first)
        while (block := self._advance()) is not None:
            self._checksums.append(_checksum(block))
            count += len(block)
        self.shape = torch.Size((count, *self._row))

    def __len__(self) -> int:
        return self.shape[0]

    def dim(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: Any) -> Tensor:
        """A point by its number; points by a slice without a step, or by a tensor of numbers in rising order."""
        if isinstance(index, int):
            return self[index : index + 1][0]
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            parts = [block[max(0, start - at) : stop - at] for at, block in self.blocks(start, stop)]
            return torch.cat(parts) if parts else self[0:1][:0]
        return torch.cat([self[row : row + 1] for row in index.tolist()])

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """Yield the blocks that hold points `start` to `stop`, each with the number of its first point."""
        stop = len(self) if stop is None else stop
        for number in range(start // BLOCK_ROWS, -(-stop // BLOCK_ROWS) if stop > start else 0):
            yield number * BLOCK_ROWS, self._block(number)

    def split(self, size: int) -> Iterator[Tensor]:
        """Yield all points, `size` at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def part(self, rows: slice) -> "PointStream":
        """Some neighbouring points, read when they are looked at."""
        return _Part(self, rows)

    def to(self, *kind: torch.device | torch.dtype | str) -> "PointStream":
        """The same points on another device, or in another type."""
        other = copy.copy(self)
        for each in kind:
            if isinstance(each, torch.dtype):
                other.dtype = each
            else:
                other.device = torch.device(each)
        other._iterator, other._next, other._last = self.read(0), 0, -1
        return other

    def double(self) -> "PointStream":
        return self.to(torch.float64)

    def _block(self, number: int) -> Tensor:
        if number == self._last:
            return self._kept
        if number < self._next or (self.jump and number != self._next):
            self._next = number if self.jump else 0
            self._iterator = self.read(self._next)
        while self._next <= number:
            block = self._advance()
            if block is None or _checksum(block) != self._checksums[self._last]:
                raise InvalidInputError(
                    "x gives other points each time it is gone through: give a Dataset, or batches in one order."
                )
        self._kept = block.to(self.device, self.dtype)  # type: ignore[union-attr]
        return self._kept

    def _advance(self) -> Tensor | None:
        with fork_rng(torch.device("cpu"), derived_seed(0, self._next)):
            block = next(self._iterator, None)
        self._last, self._next = self._next, self._next + 1
        return block


class _Part(PointStream):
    """Neighbouring points of a stream, without a copy of any."""

    def __init__(self, whole: PointStream, rows: slice):
        self.whole, (self.start, stop, _) = whole, rows.indices(len(whole))
        self.device, self.dtype = whole.device, whole.dtype
        self.shape = torch.Size((max(0, stop - self.start), *whole.shape[1:]))

    def __getitem__(self, index: Any) -> Tensor:
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            return self.whole[self.start + start : self.start + stop]
        return self.whole[index + self.start]


def point_stream(x: Any, device: torch.device, dtype: torch.dtype) -> PointStream | None:
    """Points of a Dataset, a DataLoader, an iterable of batches, or an array; None for what is none of these.

    Of a DataLoader that shuffles, the points are those of its Dataset, in the Dataset's own order. Arrays become `dtype`.
    """
    if isinstance(x, np.ndarray):
        return PointStream(lambda block: _array_blocks(x, block), device, dtype)
    if isinstance(x, DataLoader) and _has_all_points(x):
        return PointStream(lambda block: _dataset_blocks(x.dataset, x.collate_fn, block), device)
    if isinstance(x, Dataset) and not isinstance(x, IterableDataset):
        return PointStream(lambda block: _dataset_blocks(x, default_collate, block), device)
    if isinstance(x, IterableDataset):
        x = DataLoader(x, BLOCK_ROWS)
    if isinstance(x, Iterator):
        raise InvalidInputError(
            f"x is a {type(x).__name__} that can be gone through once: give what can be iterated over again, such as a DataLoader."
        )
    if isinstance(x, list | tuple) and not (len(x) and isinstance(x[0], Tensor) and x[0].dim() > 1):
        return None
    if not isinstance(x, Iterable) or isinstance(x, str | dict) or hasattr(x, "__array__"):
        return None
    batches = x
    return PointStream(lambda block: _of_one_size(map(first_part, iter(batches))), device, jump=False)


def _has_all_points(loader: DataLoader) -> bool:
    """Whether a loader gives each point of its Dataset once, in whatever order."""
    sampler = loader.sampler
    if isinstance(sampler, RandomSampler):
        return not sampler.replacement and sampler.num_samples == len(loader.dataset)  # type: ignore[arg-type]
    return isinstance(sampler, SequentialSampler)


def _dataset_blocks(dataset: Any, collate: Callable[[list[Any]], Any], block: int) -> Iterator[Tensor]:
    for start in range(block * BLOCK_ROWS, len(dataset), BLOCK_ROWS):
        yield first_part(collate([dataset[row] for row in range(start, min(start + BLOCK_ROWS, len(dataset)))]))


def _array_blocks(array: np.ndarray, block: int) -> Iterator[Tensor]:
    for start in range(block * BLOCK_ROWS, len(array), BLOCK_ROWS):
        yield torch.from_numpy(np.array(array[start : start + BLOCK_ROWS]))


def first_part(batch: Any) -> Tensor:
    """The points of a batch, which may have labels besides. Raises `InvalidInputError` where they are no tensor."""
    x = batch[0] if isinstance(batch, list | tuple) and len(batch) else batch
    if not isinstance(x, Tensor):
        raise InvalidInputError(
            f"A batch of x is {type(x).__name__}: give tensors, or tuples whose first part is one (torch.as_tensor converts "
            "lists and arrays)."
        )
    return x


def _of_one_size(batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """Batches of any size as blocks of `BLOCK_ROWS` points, and the rest."""
    waiting: list[Tensor] = []
    for batch in batches:
        waiting.append(batch)
        while sum(map(len, waiting)) >= BLOCK_ROWS:
            joined = torch.cat(waiting)
            yield joined[:BLOCK_ROWS]
            waiting = [joined[BLOCK_ROWS:].clone()]
    if sum(map(len, waiting)):
        yield torch.cat(waiting)


def _checksum(block: Tensor) -> int:
    return zlib.crc32(block.detach().cpu().contiguous().view(torch.uint8).numpy().data)
