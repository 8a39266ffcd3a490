"""Files, tables and progress bars of the commands."""

import contextlib
import csv
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInputError
from ..utils.files import is_first_process, replacing
from .processes import tell
from .verbosity import log_level

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from rich.console import Console
    from rich.progress import Progress

DOTS_PER_INCH = 150
LINE_SECONDS = 20.0  # between two lines on progress, where there are no bars
FIGURE_SUFFIXES = (".png", ".svg", ".pdf")
JSON_FORMAT = 1  # docs/versions.md says what a new number means


def check_writable(*paths: Path | None) -> None:
    """Refuse files that cannot be written: better before an hour of work than after it. None stands for no file."""
    for path in paths:
        if path is None:
            continue
        folder = path.resolve().parent
        if not folder.is_dir():
            raise InvalidInputError(f"The folder of {path} does not exist: make it first.")
        if path.is_dir():
            raise InvalidInputError(f"{path} is a folder: name a file.")
        if not os.access(folder, os.W_OK):
            raise InvalidInputError(f"Nothing can be written to {folder}: choose another folder.")


@contextlib.contextmanager
def output_folder(out: Path | None, overwrite: bool) -> Iterator[None]:
    """Make the folder `out` for what is written inside the context, as `new_folder` does; None stands for no folder.

    The first of several processes makes it, and the others wait for it.
    """
    if out is None:
        yield
        return
    from ..runs.folder import new_folder
    from ..utils.distributed import ProcessGroup

    group = ProcessGroup()
    with contextlib.ExitStack() as inside:
        group.collect(lambda: inside.enter_context(new_folder(out, overwrite)) if group.first else None)
        yield


def check_figure(path: Path | None) -> None:
    """Refuse a file of a kind that no figure has."""
    if path is not None and path.suffix not in FIGURE_SUFFIXES:
        raise InvalidInputError(f"{path} is no figure's file: give one that ends in {', '.join(FIGURE_SUFFIXES)}.")


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    with replacing(path) as file:
        file.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an object of numbers and texts, its format's number first."""
    write_text(path, json.dumps({"format": JSON_FORMAT, **content}, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a line for each row, below a line with the names of the columns."""
    with replacing(path) as file, file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, rows[0])
        table.writeheader()
        table.writerows(rows)


def check_table_format(path: Path | None) -> None:
    """Refuse a table that `write_table` cannot write. None stands for no file."""
    if path is None or path.suffix == ".csv":
        return
    if path.suffix != ".parquet":
        raise InvalidInputError(f"{path} is neither .csv nor .parquet: name a file of one of these.")
    if not any(map(find_spec, ("pyarrow", "fastparquet"))):
        raise InvalidInputError(f"{path} needs pyarrow: pip install pyarrow, or name a .csv file.")


def write_table(path: Path, table: "DataFrame") -> None:
    """Write a table, as .parquet or else as .csv with all digits."""
    with replacing(path) as file:
        if path.suffix == ".parquet":
            table.to_parquet(file, index=False)
        else:
            table.to_csv(file, index=False)


def write_netcdf(path: Path, inference_data: Any) -> None:
    """Write what `to_arviz` returns. Raises `InvalidInputError` where no library writes NetCDF: ArviZ may bring none."""
    if not (find_spec("h5netcdf") and find_spec("h5py")) and not find_spec("netCDF4"):
        raise InvalidInputError(f"{path} needs a library for NetCDF: pip install h5netcdf h5py.")
    with replacing(path) as file:
        inference_data.to_netcdf(str(file))


def save_figure(path: Path, figure: "Figure") -> None:
    """Write a figure; the suffix of the path says the format."""
    with replacing(path) as file:
        figure.savefig(file, dpi=DOTS_PER_INCH, bbox_inches="tight", pad_inches=0.08)


def console() -> "Console":
    """Return the console for results: as wide as the terminal, or as the widest table if the output is a file."""
    from rich.console import Console

    from ..tables.comparison import WIDTH

    page = Console()
    return page if page.is_terminal or "COLUMNS" in os.environ else Console(width=WIDTH)


@contextlib.contextmanager
def progress_bars() -> Iterator["Progress"]:
    """Bars on standard error, of the first process; where it is no terminal, a line of every task that runs for `LINE_SECONDS`, and then again."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    class Lines(Progress):
        def advance(self, task_id: TaskID, advance: float = 1) -> None:
            super().advance(task_id, advance)
            task = self.tasks[self.task_ids.index(task_id)]
            elapsed, said = time.monotonic() - started, task.fields.get("said", 0.0)
            done = task.completed / task.total if task.total else 0.0
            if self.disable and show and 0 < done < 1 and elapsed - said > LINE_SECONDS:
                task.fields["said"] = elapsed
                left = (time.monotonic() - begun[task_id]) * (1 - done) / done
                tell(f"{task.description}: {done:.0%} done, about {left:.0f} s left")

        def add_task(self, *args: Any, **kwargs: Any) -> TaskID:
            task_id = super().add_task(*args, **kwargs)
            begun[task_id] = time.monotonic()
            return task_id

    show = is_first_process() and log_level() < logging.ERROR
    started, begun = time.monotonic(), dict[TaskID, float]()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    with Lines(*columns, console=console, transient=True, disable=not (show and console.is_terminal)) as progress:
        yield progress
