"""Where batches come from: a tensor that is all there, or a data set larger than memory.

The order of an epoch follows from seed and epoch alone. So a resumed run knows its place, and every process of a
group has the same order.
"""

import hashlib
import itertools
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ..data.stochastic import index_rows
from ..data.streams import first_part
from ..errors import InvalidInputError
from ..missing import any_missing
from ..pair.validation import check_points
from ..utils.random import fork_rng

START = 20_000  # points of a stream that a model starts from, at most
END = object()  # of batches


class Points(Protocol):
    """Data on one device: a tensor (N, ...), or anything that gives one for an index, such as `datasets.StochasticData`."""

    @property
    def device(self) -> torch.device: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: Any) -> Tensor: ...


class Source(Protocol):
    """What `fit` asks of data."""

    device: torch.device
    size: int  # points of a full batch
    steps: int | None  # batches of an epoch, where that is known
    example: Tensor  # all points, or the first of them: what the pair is looked over and started on
    has_missing: bool  # whether entries of x are missing

    def join_single(self) -> None:
        """Make no batch of a single point, as far as batches are made here."""
        ...

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield the batches of an epoch, beginning with the one numbered `start`.

        Each comes with the rows of its points in the data, if it has any.
        """
        ...


def source_of(x: Any, batch_size: int | None, seed: int, device: torch.device, missing: bool = False) -> Source:
    """Tensors and what is like one are resident; data sets and iterables of batches are streams.

    With `missing`, x may have missing entries.
    """
    if isinstance(x, Tensor):
        check_points(x, missing)
    # NumPy's arrays have a device too, a string
    if hasattr(x, "__getitem__") and isinstance(getattr(x, "device", None), torch.device):
        return InMemoryBatches(x, batch_size, seed, missing=missing)
    if isinstance(x, Dataset | DataLoader) or (isinstance(x, Iterable) and not hasattr(x, "__array__")):
        return StreamingBatches(x, batch_size, seed, device, missing)
    raise InvalidInputError(
        f"x is {type(x).__name__}: give a tensor with a row for each point (torch.as_tensor makes one of an array; of "
        "load_data's result it is .train), a torch Dataset (pyrovae.Shards of files), or an iterable of batches."
    )


class InMemoryBatches:
    """Data on the device: batches are drawn there, without replacement; the last of an epoch may be smaller."""

    def __init__(
        self, x: Points, batch_size: int | None, seed: int, rows: Tensor | None = None, *, missing: bool = False
    ):
        """`rows` are those to use, all if not given."""
        self.x, self.seed, self.missing = x, seed, missing
        self.rows = torch.arange(len(x), device=x.device) if rows is None else rows
        self.device = x.device
        self.example = x[:] if rows is None else x[rows]
        check_points(self.example, missing)
        self.has_missing = missing and any_missing(self.example)
        self.size = min(batch_size or len(self.rows), len(self.rows))
        self.steps: int | None = -(-len(self.rows) // self.size)
        self.joins_single = False

        self._whole = self.example if self.size == len(self.rows) and isinstance(x, Tensor) else None

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        if self._whole is not None:
            if start == 0:
                yield self._whole, self.rows
            return
        generator = torch.Generator(self.device).manual_seed(seed_of("order", self.seed, epoch))
        order = self.rows[torch.randperm(len(self.rows), generator=generator, device=self.device)]
        for rows in order.split(batch_sizes(len(order), self.size, self.joins_single))[start:]:
            yield index_rows(self.x, rows) if isinstance(self.x, Tensor) else self.x[rows], rows

    def join_single(self) -> None:
        """Make no batch of a single point: one that is left over goes into the batch before it."""
        self.joins_single, self.steps = True, len(batch_sizes(len(self.rows), self.size, True))

    def hold_out(self, share: float) -> Tensor:
        """Take that share of the points out of the batches, at random, and return them."""
        points = len(self.rows)
        count = round(share * points)
        if not 0 < count < points:
            raise InvalidInputError(
                f"A share of {share} of {points} points cannot be held out: give more points, or another share."
            )
        generator = torch.Generator(self.device).manual_seed(seed_of("held out", self.seed))
        order = self.rows[torch.randperm(points, generator=generator, device=self.device)]
        size, rows = min(self.size, points - count), order[count:].sort().values
        self.__init__(self.x, size, self.seed, rows, missing=self.missing)  # type: ignore[misc]
        return self.x[order[:count]]


def batch_sizes(points: int, size: int, joins_single: bool) -> list[int]:
    """How many points each batch of an epoch has; a single last one may be joined to the batch before it."""
    full, rest = divmod(points, size)
    if joins_single and rest == 1 and full:
        return [size] * (full - 1) + [size + 1]
    return [size] * full + ([rest] if rest else [])


class StreamingBatches:
    """A torch `Dataset`, or anything that gives batches whenever it is iterated over; of tuples the first part is x.

    A map-style Dataset is shuffled and batched here, in its own `order()` if it has one. What comes in batches keeps
    its own: a `DataLoader` brings workers, and is shuffled the same again for the same seed and epoch. Torch's random state is that of seed, epoch and batch while one is
    made, so that transforms draw the same again. To a GPU one batch is on its way, from pinned memory, while another is used.
    """

    def __init__(self, data: Any, batch_size: int | None, seed: int, device: torch.device, missing: bool = False):
        if isinstance(data, Iterator):
            raise InvalidInputError(
                f"x is a {type(data).__name__} that can be gone through once: give what can be iterated over again, such as a "
                "DataLoader."
            )
        self.data, self.seed, self.device = data, seed, device
        self._map_style = isinstance(data, Dataset) and not isinstance(data, IterableDataset)
        if isinstance(data, Dataset) and batch_size is None:
            raise InvalidInputError("A Dataset is trained on in batches: give a batch_size.")
        if self._map_style and not hasattr(data, "__len__"):
            raise InvalidInputError(
                f"x is a {type(data).__name__} of unknown length: give it __len__, or make it iterable."
            )
        self._batch_size, self.missing = batch_size, missing
        self.joins_single = False
        self.size = min(batch_size or 1, len(data)) if self._map_style else 0
        self._kind: tuple[torch.Size, torch.dtype] | None = None  # of the first batch
        several, points = [], 0
        for x, _ in self.batches(0, 0):
            several.append(x)
            points += len(x)
            if points + len(several[0]) > START:
                break
        if not several:
            raise InvalidInputError("x has no batches: give at least one point.")
        self.size = self.size or len(several[0])
        self.steps = self._count()
        self.example = torch.cat(several)
        self.has_missing = self.missing = missing and any_missing(self.example)

    def join_single(self) -> None:
        """As of `InMemoryBatches`; what comes in batches keeps its own."""
        self.joins_single, self.steps = True, self._count()

    def _count(self) -> int | None:
        if self._map_style:
            return len(batch_sizes(len(self.data), self.size, self.joins_single))
        try:
            length = len(self.data)
        except TypeError:
            return None
        return -(-length // self.size) if isinstance(self.data, IterableDataset) else length

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        loaded = self._loaded(epoch, start)
        return _ahead(loaded) if self.device.type == "cuda" else loaded

    def _loaded(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        order = None
        with fork_rng(self.device, seed_of("order", self.seed, epoch)):
            if self._map_style:
                order = self.data.order() if hasattr(self.data, "order") else torch.randperm(len(self.data))
                parts = order.split(batch_sizes(len(order), self.size, self.joins_single)) if len(order) else ()
                loader: Any = self._loader([part.tolist() for part in parts[start:]])
            else:
                loader = self._loader() if isinstance(self.data, Dataset) else self.data
                self._shuffle_again(loader, epoch)
            batches = iter(loader)
        for number in itertools.count(
            0 if order is None else start
        ):  # of others' order, all before must be gone through
            with fork_rng(self.device, seed_of("batch", self.seed, epoch, number)):
                batch = next(batches, END)
            if batch is END:
                return
            if number < start:
                continue
            rows = None if order is None else parts[number]
            yield self._checked(batch, number, epoch), rows

    def _shuffle_again(self, loader: Any, epoch: int) -> None:
        """Generators of a loader and its samplers start from seed and epoch, not from where the last epoch left them."""
        batch_sampler = getattr(loader, "batch_sampler", None)
        for part in (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)):
            generator = getattr(part, "generator", None)
            if isinstance(generator, torch.Generator):
                generator.manual_seed(seed_of("order", self.seed, epoch))

    def _loader(self, batches: list[list[int]] | None = None) -> DataLoader:
        """A loader of the data's own order, or of these batches."""
        generator = torch.Generator()  # of its own: a loader draws a number whenever it is iterated over
        generator.manual_seed(0)
        pinned = self.device.type == "cuda"
        if batches is not None:
            return DataLoader(self.data, batch_sampler=batches, generator=generator, pin_memory=pinned)
        return DataLoader(self.data, self._batch_size, generator=generator, pin_memory=pinned)

    def _checked(self, batch: Any, number: int, epoch: int) -> Tensor:
        x = first_part(batch).to(self.device, non_blocking=True)
        try:
            check_points(x, self.missing)
        except InvalidInputError as error:
            raise InvalidInputError(f"In batch {number + 1} of epoch {epoch + 1}, {error}") from error
        kind = x.shape[1:], x.dtype
        self._kind = self._kind or kind
        if kind != self._kind:
            raise InvalidInputError(
                f"Batch {number + 1} of epoch {epoch + 1} has points of shape {tuple(kind[0])}, {kind[1]}, where the first "
                f"batch has {tuple(self._kind[0])}, {self._kind[1]}: give all points one shape and type."
            )
        return x


def _ahead(
    batches: Iterator[tuple[Tensor, Tensor | None]],
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The same batches, each asked for before the one before it is used: the host loads while the GPU computes."""
    waiting = next(batches, None)
    while waiting is not None:
        following = next(batches, None)
        yield waiting
        waiting = following


def fingerprint(source: Source) -> list[int] | None:
    """A number that other data would not have; of data that are other ones at every look, their shape."""
    if not isinstance(source, InMemoryBatches):
        return None
    sums = []
    for _ in range(1 if isinstance(source.x, Tensor) else 2):
        with fork_rng(source.device, 0):
            x = source.x[:].detach().cpu().contiguous()
        sums.append(zlib.crc32(x.view(torch.uint8).numpy().data))
    return [*x.shape, *({*sums} if len({*sums}) == 1 else ())]


def seed_of(*words: object) -> int:
    """A seed of its own for each list of words: 63 bits of their SHA-256."""
    return int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:8], "big") >> 1
