"""A batch that several processes share: which of its points are this one's, and the noise of the whole of it."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..pair.sites import PLATE

__all__: tuple[str, ...] = ()  # `place_in_batch` is offered by name


class BatchShare(NamedTuple):
    """Points `rows` of a batch of `size`. A process without any has one that counts nothing."""

    size: int
    rows: slice

    @property
    def counts(self) -> bool:
        """Whether any of the points are this process's."""
        return self.rows.stop > self.rows.start

    @property
    def looked_at(self) -> slice:
        """The points that the process computes with."""
        return self.rows if self.counts else slice(0, 1)


_share: ContextVar[BatchShare | None] = ContextVar("share", default=None)


def current_share() -> BatchShare | None:
    """This process's part of the batch whose loss is being computed; None where it has all."""
    return _share.get()


def place_in_batch(x: Tensor) -> tuple[Tensor, int]:
    """Return the numbers (N,) of the points x in their batch, from 0, and the size of the batch.

    They are 0 … N − 1 and N, unless several processes share the batch. An objective that treats points by their number
    needs them.
    """
    share = _share.get()
    rows = torch.arange(len(x), device=x.device)
    return (rows, len(x)) if share is None else (rows + share.looked_at.start, share.size)


@contextlib.contextmanager
def shared_batch(share: BatchShare, everywhere: bool = False) -> Iterator[None]:
    """Inside, a loss is that of this process's points, and its noise is a part of the noise of the whole batch.

    Every process of a seed consumes the same random numbers and keeps its own rows. Some samplers use more random
    numbers for some values than for others, such as a gamma's rejections. They are as random, but the noise depends
    on the size of the group. `everywhere`: also where code draws by itself, for points along the first dimension.
    """
    token = _share.set(share)
    part = share.looked_at
    try:
        with contextlib.ExitStack() as inside:
            inside.enter_context(_WholeBatchNoise(share.size, part))
            if everywhere:
                inside.enter_context(_Enlarged(0, part.stop - part.start, share.size, part.start))
            yield
    finally:
        _share.reset(token)


class _WholeBatchNoise(Messenger):
    """Draws latents of this process's points as a part of a draw for the whole batch."""

    def __init__(self, points: int, part: slice):
        super().__init__()
        self.points, self.part = points, part

    def _pyro_sample(self, msg: Any) -> None:
        frame = next((frame for frame in msg["cond_indep_stack"] if frame.name == PLATE and frame.vectorized), None)
        if frame is None or msg["is_observed"] or msg["value"] is not None:
            return
        shape = msg["fn"].batch_shape
        axis = len(shape) + frame.dim
        with _Enlarged(axis, frame.size, self.points, self.part.start, shape[:axis].numel()):
            msg["value"] = msg["fn"](*msg["args"], **msg["kwargs"])


class _Enlarged(TorchDispatchMode):
    """Does random operations on tensors of `size` rows along `axis` with `points` rows.

    It returns the rows from `start` on. `before` is the number of elements in the dimensions before `axis`.
    """

    def __init__(self, axis: int, size: int, points: int, start: int, before: int = 1):
        super().__init__()
        self.axis, self.size, self.points, self.start, self.before = axis, size, points, start, before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        if func is torch.ops.aten.multinomial.default and args[0].dim() == 2:
            return self._multinomial(func, args, kwargs)
        enlarged = [self._enlarge(argument) for argument in args]
        if all(new is old for new, old in zip(enlarged, args, strict=True)):
            return func(*args, **kwargs)
        drawn = func(*enlarged, **kwargs).narrow(self.axis, self.start, self.size)
        return args[0].copy_(drawn) if func._schema.is_mutable else drawn.clone()

    def _multinomial(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        """Of a categorical, which has made one dimension of all but its classes."""
        weights = args[0]
        if len(weights) % (self.before * self.size):
            return func(*args, **kwargs)
        rows = self._rows(weights)
        split = weights.reshape(self.before, self.size, -1, weights.shape[1])
        drawn = func(split.index_select(1, rows).flatten(0, 2), *args[1:], **kwargs)
        own = drawn.reshape(self.before, self.points, -1, drawn.shape[1]).narrow(1, self.start, self.size)
        return own.flatten(0, 2).clone()

    def _rows(self, argument: Tensor) -> Tensor:
        return (torch.arange(self.points, device=argument.device) - self.start) % self.size

    def _enlarge(self, argument: Any) -> Any:
        if isinstance(argument, Tensor) and argument.dim() > self.axis and argument.shape[self.axis] == self.size:
            return argument.index_select(self.axis, self._rows(argument))
        sizes = isinstance(argument, list | tuple) and len(argument) > self.axis
        if sizes and all(isinstance(size, int) for size in argument) and argument[self.axis] == self.size:
            return [*argument[: self.axis], self.points, *argument[self.axis + 1 :]]
        return argument
