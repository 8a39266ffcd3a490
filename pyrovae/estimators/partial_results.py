"""Save partial evaluation results so that an interrupted evaluation can resume."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..utils.files import replacing

SAVE_INTERVAL_SECONDS = 5.0  # between two writes: at most so much is scored again


class PartialResults:
    """Statistics of the points that are done, in order.

    `identity` tells one evaluation from another. A file of another one, or one that cannot be read, is ignored and
    overwritten.
    """

    def __init__(self, path: Path | None = None, identity: Callable[[], tuple[Any, ...]] = tuple):
        self.path, self.points, self.saved = path, 0, time.monotonic()
        self.parts: list[dict[str, Tensor]] = []
        self.final = True  # whether all of them may be kept
        if path is None:  # then nothing is kept beyond this process
            return
        self.identity = hashlib.sha256(repr(identity()).encode()).hexdigest()
        if path.is_file():
            self.read(path)

    def read(self, path: Path) -> None:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            if content["identity"] == self.identity:
                self.points, self.parts = int(content["points"]), [dict(content["statistics"])]
        except Exception:  # torch raises many kinds for a file that is not whole
            self.points, self.parts = 0, []

    def skip_to(self, first: int) -> None:
        """Points before `first` are another process's."""
        self.points = max(self.points, first)

    def add(self, statistics: dict[str, Tensor], points: int, final: bool = True) -> None:
        """Add the next `points` points. If they are not final, the file keeps those before them and is not written again."""
        if not final and self.final and self.points:
            self.save()
        self.final = self.final and final
        self.parts.append(statistics)
        self.points += points
        if self.path is not None and time.monotonic() - self.saved > SAVE_INTERVAL_SECONDS:
            self.save()

    @contextlib.contextmanager
    def save_on_interrupt(self) -> Iterator[None]:
        """Ctrl-C loses nothing that is done."""
        try:
            yield
        except KeyboardInterrupt as stopped:
            if self.path is not None and self.points:
                self.save()
                stopped.add_note("Points that are scored are kept: the same evaluation goes on from there.")
            raise

    def statistics(self) -> dict[str, Tensor]:
        """(..., points) each, by name; nothing if no point is done."""
        if not self.parts:
            return {}
        self.parts = [{name: torch.cat([part[name] for part in self.parts], dim=-1) for name in self.parts[0]}]
        return dict(self.parts[0])

    def save(self) -> None:
        if self.path is None or not self.final:
            return
        content = {"identity": self.identity, "points": self.points, "statistics": self.statistics()}
        with replacing(self.path, by_all=True) as file:
            torch.save(content, file)
        self.saved = time.monotonic()

    def remove(self) -> None:
        """The evaluation is complete."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
