"""Files that are written whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .torchrun import are_several


@contextlib.contextmanager
def replacing(path: Path, previous: Path | None = None, *, by_all: bool = False) -> Iterator[Path]:
    """Write to the yielded path; at the end it takes the place of `path` in one step, after an error nothing has changed.

    What was at `path` goes to `previous`, if one is given; a kill in between leaves it there, and nothing at `path`.
    Of processes that do one job, only the first one's file is kept, unless it is written `by_all`.
    """
    if not (by_all or is_first_process()):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / path.name
        return
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(0o644)
        if previous is not None and path.exists():
            path.replace(previous)
        temporary.replace(path)
        if os.name == "posix":  # the names too are to outlive a loss of power
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_first_process() -> bool:
    """Whether this process writes files: the first of those that do one job."""
    if not are_several():
        return True
    from .distributed import ProcessGroup

    return ProcessGroup().first
