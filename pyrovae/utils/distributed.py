"""Several processes that train one pair: each takes its share of a batch, and gradients are summed over all.

Started by torchrun, on NCCL or gloo. Every process draws the noise of the whole batch and keeps the part of its own
points. So with the same seed the group has the gradient that one process has. Batch statistics and dropout inside
networks are each process's own, over its own points; what is kept of them is the first's.
"""

import contextlib
import os
from collections.abc import Iterator

import torch
import torch.distributed as group
from torch import Tensor

from ..errors import RunError

GONE = "Another process of the group has stopped, and its message says why; this one stops too."


class ProcessGroup:
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
        """The sum over processes, in place. Raises `RunError` where another process has gone."""
        if self.count > 1:
            try:
                group.all_reduce(values)
            except RuntimeError as error:
                raise RunError(GONE) from error
        return values

    def gather(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by name, put together along the last dimension in the order of the processes; {} where one has none."""
        if self.count == 1:
            return parts
        every: list[dict[str, Tensor]] = [{}] * self.count
        try:
            group.all_gather_object(every, parts)
        except RuntimeError as error:
            raise RunError(GONE) from error
        every = [part for part in every if part]
        return {name: torch.cat([part[name] for part in every], dim=-1) for name in every[0]}

    def barrier(self) -> None:
        """Wait until all processes have come so far."""
        self.broadcast(0.0)

    def broadcast(self, value: float) -> float:
        """The first process's number, on all."""
        if self.count == 1:
            return value
        device = "cuda" if group.get_backend() == "nccl" else "cpu"
        own = torch.tensor(value if self.first else 0.0, dtype=torch.float64, device=device)
        return float(self.sum(own))


@contextlib.contextmanager
def init_process_group() -> Iterator[ProcessGroup]:
    """The group that torchrun started this process in, if it did."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ProcessGroup()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
    group.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield ProcessGroup()
    finally:
        group.destroy_process_group()
