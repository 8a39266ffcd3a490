"""Several processes that do one job: each takes its share of the work, and all have the whole result.

Started by torchrun, on gloo, and on NCCL for what is on GPUs. All run the same program, and the first one writes and
prints. In training, each takes its share of a batch, and gradients are summed. Every process draws the noise of the
whole batch and keeps the part of its own points. So with the same seed the group has the gradient that one process
has. Batch statistics and dropout inside networks are each process's own, over its own points; what is kept of them is
the first's.
"""

import collections
import contextlib
import hashlib
import io
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from datetime import timedelta
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed as group
from torch import Tensor

from ..errors import GroupError
from .torchrun import are_several

GONE = (
    "Another process of the job has stopped: its own message, or torchrun's report, says why. "
    "`pyrovae train --resume RUN` goes on from the last checkpoint."
)
LONGEST_WAIT = timedelta(days=7)  # for a process that has more to do: one that has died is noticed at once

Result = TypeVar("Result")

_is_alone: ContextVar[bool] = ContextVar("is_alone", default=False)
_store: list[Any] = []  # what processes tell each other through, if there are several
_said: collections.Counter[str] = collections.Counter()  # by this process


class JobEnded(KeyboardInterrupt):
    """torchrun has asked this process to end, because another one has, or because it was itself asked to."""


class ProcessGroup:
    """This process's place among those that do one job: one of one where torch.distributed is not in use."""

    def __init__(self) -> None:
        running = not _is_alone.get() and group.is_available() and group.is_initialized()
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
        """The sum over processes, in place. Raises `GroupError` where another process has gone."""
        if self.count > 1:
            with _others_may_be_gone():
                group.all_reduce(values)
        return values

    def collect(self, work: Callable[[], Result], device: torch.device | str = "cpu") -> list[Result]:
        """Do the work of each process, and return what each has, in their order and on all of them.

        An error of one is raised on all, so that all go on in the same way. Tensors are put on `device`.
        """
        if self.count == 1:
            return [work()]
        own: dict[str, Any] = {}
        try:
            own["result"] = work()
        except GroupError:  # there is nobody to tell
            raise
        except Exception as error:
            own["error"] = error
        every: list[Any] = [None] * self.count
        with _others_may_be_gone():
            group.all_gather_object(every, _packed(own))
        parts = [own if rank == self.rank else _unpacked(part, device) for rank, part in enumerate(every)]
        for part in parts:
            if "error" in part:
                raise part["error"]
        return [part["result"] for part in parts]

    def barrier(self) -> None:
        """Wait until all processes have come so far."""
        self.broadcast(0.0)

    def broadcast(self, value: float) -> float:
        """The first process's number, on all."""
        if self.count == 1:
            return value
        own = torch.tensor(value if self.first else 0.0, dtype=torch.float64)
        return float(self.sum(own))

    def is_first_to_say(self, text: str) -> bool:
        """Whether no other process has said the same before, so that a reader is told once."""
        if not _store:
            return True
        _said[text] += 1
        key = hashlib.sha256(f"{_said[text]} {text}".encode()).hexdigest()
        try:
            return bool(_store[-1].add(key, 1) == 1)
        except RuntimeError:  # the process that kept count has gone
            return True


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside, this process works by itself, on what is no other's."""
    token = _is_alone.set(True)
    try:
        yield
    finally:
        _is_alone.reset(token)


@contextlib.contextmanager
def init_process_group() -> Iterator[ProcessGroup]:
    """The group that torchrun started this process in, if it did."""
    if not are_several() or group.is_initialized():
        yield ProcessGroup()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
    store, rank, count = next(group.rendezvous("env://"))
    _store.append(group.PrefixStore("said", store))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"  # `--device cpu` is for any machine
    members = group.PrefixStore("members", store)
    group.init_process_group(backend, store=members, rank=rank, world_size=count, timeout=LONGEST_WAIT)
    try:
        with _ended_by_signal():
            yield ProcessGroup()
    finally:
        _store.clear()
        group.destroy_process_group()


def concatenated(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors by name, put together along the last dimension; {} where no part has any."""
    parts = [part for part in parts if part]
    return {name: torch.cat([part[name] for part in parts], dim=-1) for name in parts[0]} if parts else {}


@contextlib.contextmanager
def _others_may_be_gone() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise GroupError(GONE) from error


@contextlib.contextmanager
def _ended_by_signal() -> Iterator[None]:
    """SIGTERM, which torchrun sends to the others when one process has died, ends this one with a sentence."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise JobEnded(GONE)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _packed(part: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(part, buffer)
    return buffer.getvalue()


def _unpacked(part: bytes, device: torch.device | str) -> dict[str, Any]:
    """Another process's part. It is this program's own, so that it may hold any object."""
    return torch.load(io.BytesIO(part), map_location=device, weights_only=False)
