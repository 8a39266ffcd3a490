"""Training states on disk: written whole or not at all, the last two kept, read without running code."""

import logging
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..errors import InvalidInputError
from ..utils.files import replacing

log = logging.getLogger("pyrovae")

VERSION = 2  # of what a checkpoint holds


class Checkpoints:
    """Keep the state of a training in a folder: checkpoint.pt, and the one before it as checkpoint.previous.pt.

    A run that was killed at any moment and is resumed ends where the uninterrupted run does, bit for bit on a CPU.

    Args:
        folder: Where the checkpoints are.
        interval: `fit` writes one every so many seconds, and one at the end.
        resume: Continue from the checkpoint that is there.

    Example:
        >>> import pyrovae
        >>> checkpoints = pyrovae.Checkpoints("runs/mine", interval=60)  # for fit(checkpoints=checkpoints)
    """

    def __init__(self, folder: str | Path, interval: float = 5.0, resume: bool = False):
        self.folder, self.interval, self.resume = Path(folder), interval, resume
        self._saved = time.monotonic()
        self._begun = False

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def previous(self) -> Path:
        return self.folder / "checkpoint.previous.pt"

    def exist(self) -> bool:
        return self.path.is_file() or self.previous.is_file()

    def due(self) -> bool:
        return time.monotonic() - self._saved > self.interval

    def save(self, state: dict[str, Any]) -> None:
        """Replace the newest checkpoint by `state`. The one that was there becomes the previous one.

        Raises:
            OSError: It cannot be written. The old checkpoints are still there.
        """
        if not self._begun:
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in self.folder.glob(f".{self.path.name}.*"):  # a kill in the middle of a save leaves its half
                left.unlink(missing_ok=True)
            self._begun = True
        try:
            with replacing(self.path, self.previous) as file, file.open("wb") as stream:
                torch.save({"version": VERSION, **state}, stream)
        except (OSError, RuntimeError) as error:  # torch has a word of its own for a disk that filled up in the middle
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            failure = OSError(cause.errno, cause.strerror, str(self.path))
            failure.add_note("What was kept before is whole, and training can be resumed from it.")
            raise failure from error
        self._saved = time.monotonic()

    def load(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        """The newest state that can be read. Raises `InvalidInputError` where there is none."""
        return load_checkpoint(self.folder, device)


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The newest of a folder's two checkpoints that is whole. Raises `InvalidInputError` where neither is, or there is none."""
    checkpoints = Checkpoints(folder)
    paths = [path for path in (checkpoints.path, checkpoints.previous) if path.is_file()]
    if not paths:
        raise InvalidInputError(
            f"{folder} has no checkpoint.pt: its training was stopped before the first one; train it again."
        )
    for path in paths:
        try:
            state = torch.load(path, map_location=device, weights_only=True)
        except (PermissionError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # torch raises many kinds for a file that is not whole
            if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
                raise InvalidInputError(
                    f"{path} carries code, or what is no tensor and no number, so it is not read: it is no pyrovae checkpoint."
                ) from error
            if path is not paths[-1]:
                log.warning("%s is damaged; going on from the one before it, %s.", path, paths[-1].name)
            continue
        if isinstance(state, dict) and state.get("version") == VERSION:
            return state
        raise InvalidInputError(
            f"{path} is no checkpoint of this version of pyrovae: use the one that wrote it, or train the run again."
        )
    raise InvalidInputError(
        f"{paths[0]} cannot be read: it is truncated, carries code, or is no pyrovae checkpoint; train the run again."
    )
