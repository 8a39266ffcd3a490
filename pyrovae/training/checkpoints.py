"""Training states on disk: written whole or not at all, the last two kept, read without running code."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..errors import Refusal
from ..files import replacing

VERSION = 1  # of what a checkpoint holds


class Checkpoints:
    """A folder's checkpoint.pt, and the one before it as checkpoint.previous.pt.

    `fit` writes there every `seconds` and at the end; with `resume` it goes on from what is there, and a run that was killed at
    any moment ends, on a CPU, bit for bit where the uninterrupted one does.
    """

    def __init__(self, folder: str | Path, seconds: float = 5.0, resume: bool = False):
        self.folder, self.seconds, self.resume = Path(folder), seconds, resume
        self.extra: Callable[[], dict[str, Any]] = dict  # what is to be kept beside the training's state
        self._saved = time.monotonic()

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def previous(self) -> Path:
        return self.folder / "checkpoint.previous.pt"

    def exist(self) -> bool:
        return self.path.is_file() or self.previous.is_file()

    def due(self) -> bool:
        return time.monotonic() - self._saved > self.seconds

    def save(self, state: dict[str, Any]) -> None:
        """Put `state` in the place of the newest, which becomes the previous one."""
        with replacing(self.path) as file:
            torch.save({"version": VERSION, **self.extra(), **state}, file)
            if self.path.exists():
                self.path.replace(self.previous)  # a kill between the two leaves the previous one, which load() finds
        self._saved = time.monotonic()

    def load(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        """The newest state that can be read. Raises `Refusal` where there is none."""
        return load_checkpoint(self.folder, device)


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The newest of a folder's two checkpoints that is whole. Raises `Refusal` where neither is, or there is none."""
    held = Checkpoints(folder)
    found = [path for path in (held.path, held.previous) if path.is_file()]
    if not found:
        raise Refusal(f"{folder} has no checkpoint.pt: its training was stopped before the first one; train it again.")
    for path in found:
        try:
            state = torch.load(path, map_location=device, weights_only=True)
        except Exception:  # torch raises many kinds for a file that is not whole, or that carries code
            continue
        if isinstance(state, dict) and state.get("version") == VERSION:
            return state
        raise Refusal(
            f"{path} is no checkpoint of this version of pyrovae: use the one that wrote it, or train the run again."
        )
    raise Refusal(
        f"{found[0]} cannot be read: it is truncated, carries code, or is no pyrovae checkpoint; train the run again."
    )
