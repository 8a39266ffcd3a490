"""Files, tables and progress bars of the commands."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import InvalidInputError
from ..tables.comparison import WIDTH
from ..utils.files import replacing


def check_writable(path: Path | None) -> None:
    """Better before an hour of work than after it."""
    if path is None:
        return
    folder = path.resolve().parent
    if not folder.is_dir():
        raise InvalidInputError(f"The folder of {path} does not exist: make it first.")
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder: name a file.")
    if not os.access(folder, os.W_OK):
        raise InvalidInputError(f"Nothing can be written to {folder}: choose another folder.")


def write_text(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def console() -> Console:
    found = Console()
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(width=WIDTH)


@contextlib.contextmanager
def progress_bars(show: bool = True) -> Iterator[Progress]:
    """Bars on standard error, and only where someone can watch them."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (show and console.is_terminal)) as progress:
        yield progress
