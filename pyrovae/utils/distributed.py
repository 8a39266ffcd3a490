"""Several processes that train one pair: each takes its share of a batch, and gradients are summed over all.

Started by torchrun, on NCCL or gloo. Noise is drawn for the whole batch on every process and each keeps the part of its own
points, so that with the same seed the group has the gradient that one process has. Batch statistics and dropout inside networks
are each process's own, over its own points; what is kept of them is the first's.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as group
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import Diverged
from ..pair.structure import PLATE

GONE = "Another process of the group has stopped, and its message says why; this one stops too."


class Ranks:
    """This process's place among those that train together: one of one where torch.distributed is not in use."""

    def __init__(self) -> None:
        running = group.is_available() and group.is_initialized()
        self.rank = group.get_rank() if running else 0
        self.count = group.get_world_size() if running else 1

    @property
    def first(self) -> bool:
        """Whether it is this process that writes and prints."""
        return self.rank == 0

    def share(self, points: int) -> slice:
        """This process's part of `points`: parts differ by one at most, and may be empty."""
        each, more = divmod(points, self.count)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))

    def sum(self, values: Tensor) -> Tensor:
        """The sum over processes, in place. Raises `Diverged` where another process has gone."""
        if self.count > 1:
            try:
                group.all_reduce(values)
            except RuntimeError as error:
                raise Diverged(GONE) from error
        return values

    def gather(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by name, put together along the last dimension in the order of the processes; {} where one has none."""
        if self.count == 1:
            return parts
        every: list[dict[str, Tensor]] = [{}] * self.count
        try:
            group.all_gather_object(every, parts)
        except RuntimeError as error:
            raise Diverged(GONE) from error
        every = [found for found in every if found]
        return {name: torch.cat([found[name] for found in every], dim=-1) for name in every[0]}

    def meet(self) -> None:
        """Wait until all processes have come so far."""
        self.agreed(0.0)

    def agreed(self, value: float) -> float:
        """The first process's number, on all."""
        if self.count == 1:
            return value
        device = "cuda" if group.get_backend() == "nccl" else "cpu"
        own = torch.tensor(value if self.first else 0.0, dtype=torch.float64, device=device)
        return float(self.sum(own))


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """The group that torchrun started this process in, if it did."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
    group.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Ranks()
    finally:
        group.destroy_process_group()


class whole_batch_noise(Messenger):
    """Inside, a latent of this process's points is drawn as a part of a draw for the whole batch of `points`.

    Every process of a seed consumes the same random numbers and keeps its own rows. Samplers that use up more or fewer
    numbers for some values than for others (a gamma's rejections) are no less random, but another group's noise differs.
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
    """Random operations on tensors with `size` rows along `axis` are done with `points` rows, of which those from `start` on
    are returned."""

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
