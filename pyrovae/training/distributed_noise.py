"""Noise of a whole batch, of which each process of a group keeps the part of its own points."""

from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..pair.sites import PLATE


class whole_batch_noise(Messenger):
    """Inside, a latent of this process's points is drawn as a part of a draw for the whole batch of `points`.

    Every process of a seed consumes the same random numbers and keeps its own rows. Some samplers use more random
    numbers for some values than for others, such as a gamma's rejections. They are as random, but the noise depends
    on the size of the group.
    """

    def __init__(self, points: int, part: slice):
        super().__init__()
        self.points, self.part = points, part

    def _pyro_sample(self, msg: Any) -> None:
        frame = next((frame for frame in msg["cond_indep_stack"] if frame.name == PLATE and frame.vectorized), None)
        if frame is None or msg["is_observed"] or msg["value"] is not None:
            return
        with _Enlarged(len(msg["fn"].batch_shape) + frame.dim, frame.size, self.points, self.part.start):
            msg["value"] = msg["fn"](*msg["args"], **msg["kwargs"])


class _Enlarged(TorchDispatchMode):
    """Does random operations on tensors of `size` rows along `axis` with `points` rows.

    It returns the rows from `start` on.
    """

    def __init__(self, axis: int, size: int, points: int, start: int):
        super().__init__()
        self.axis, self.size, self.points, self.start = axis, size, points, start

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        enlarged = [self._enlarge(argument) for argument in args]
        if all(new is old for new, old in zip(enlarged, args, strict=True)):
            return func(*args, **kwargs)
        drawn = func(*enlarged, **kwargs).narrow(self.axis, self.start, self.size)
        return args[0].copy_(drawn) if func._schema.is_mutable else drawn.clone()

    def _enlarge(self, argument: Any) -> Any:
        if isinstance(argument, Tensor) and argument.dim() > self.axis and argument.shape[self.axis] == self.size:
            rows = (torch.arange(self.points, device=argument.device) - self.start) % self.size
            return argument.index_select(self.axis, rows)
        sizes = isinstance(argument, list | tuple) and len(argument) > self.axis
        if sizes and all(isinstance(size, int) for size in argument) and argument[self.axis] == self.size:
            return [*argument[: self.axis], self.points, *argument[self.axis + 1 :]]
        return argument
