"""Points from files of arrays and tables, with their columns and labels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidInputError, did_you_mean
from .file_contents import Content, read_content
from .raw import RawData, given_split, random_split

LARGEST = 1e150  # whose square is a number
LABEL_NAMES = {"label", "labels", "class", "target", "y"}  # of columns that are likely no part of x


@dataclass(frozen=True)
class Reading:
    """How a file is read."""

    label: str | None = None  # a column that is taken out of x and kept as the points' labels
    drop: tuple[str, ...] = ()  # columns that are left out
    levels: int | None = None  # the numbers are pixels of so many levels
    columns: tuple[str, ...] = ()  # those that x is to have, in this order, where the file has names


def load_file(path: Path, generator: torch.Generator, reading: Reading, split: bool) -> RawData:
    """The points of a file or a folder of files, in their order and units, in double precision; pixels as they are stored."""
    content = read_content(path)
    image = content.arrays[0].ndim == 3
    shape = (int(content.arrays[0].shape[1]), int(content.arrays[0].shape[2])) if image else None
    stored = content.arrays[0].dtype
    source = "folder" if path.is_dir() else "file"
    rows = [len(array) for array in content.arrays]
    values = np.concatenate([array.reshape(len(array), -1) for array in content.arrays])
    kept, labels, notes = _columns(path, content, reading, values.shape[1])
    names = tuple(content.names[place] for place in kept) if content.names else ()
    if len(kept) < values.shape[1]:
        values = values[:, kept]
    _check_finite(path, values, names)
    points = torch.as_tensor(values.astype(np.float64))
    levels, whole = _kind(path, points, stored, content.whole, image, reading.levels)
    if len(rows) == 2:
        chosen = given_split(rows[0], rows[1], f"the {source}'s")
    elif not split:
        every = torch.arange(len(points))
        chosen = every, every, f"all {len(points)} points of the {source}"
    else:
        chosen = random_split(len(points), generator)
    classes, label_names = _classes(labels)
    return RawData(
        points.float() if levels is not None else points,
        *chosen,
        levels=levels,
        whole=whole,
        shape=shape if len(kept) == points.shape[1] and image else None,
        column_names=names,
        labels=classes,
        label_names=label_names,
        notes=notes,
    )


def _columns(
    path: Path, content: Content, reading: Reading, width: int
) -> tuple[list[int], np.ndarray | None, tuple[str, ...]]:
    """The columns that x has, the labels, and what is to be said of columns."""
    names = content.names
    values = content.arrays[0] if len(content.arrays) == 1 else np.concatenate(content.arrays)
    out = {_place(path, column, names, width, "--drop") for column in reading.drop}
    labels = content.labels
    given = reading.columns
    if reading.label is not None and (not given or reading.label in names):
        place = _place(path, reading.label, names, width, "--label")
        labels = content.texts.get(place, values.reshape(len(values), -1)[:, place])
        out.add(place)
    if given and names:
        missing = [name for name in given if name not in names]
        if missing:
            raise InvalidInputError(
                f"{path} has no column '{missing[0]}', which the run was trained on: it has {', '.join(names)}."
            )
        kept = [names.index(name) for name in given]
    else:
        kept = [place for place in range(width) if place not in out]
    texts = [place for place in kept if place in content.texts]
    if texts:
        column = names[texts[0]] if names else str(texts[0])
        raise InvalidInputError(
            f"{path} has text in column '{column}': take it out with --drop {column}, keep it as the points' labels with --label "
            f"{column}, or replace it by numbers."
        )
    if not kept:
        raise InvalidInputError(f"{path} has no columns left: drop fewer.")
    notes = tuple(
        f"Column '{names[place]}' is a part of x. If it holds labels, take it out: --label {names[place]}, or --drop."
        for place in sorted({0, width - 1})
        if names and place in kept and names[place].lower() in LABEL_NAMES and not given
    )
    return kept, labels, notes


def _place(path: Path, column: str, names: tuple[str, ...], width: int, flag: str) -> int:
    """The number of a column that is called by name or, where the file has no names, by number."""
    if column in names:
        return names.index(column)
    if not names and column.isdigit() and int(column) < width:
        return int(column)
    known = ", ".join(names) if names else f"the numbers 0 to {width - 1}"
    raise InvalidInputError(
        f"{path} has no column '{column}'{did_you_mean(column, names)}: {flag} takes one of {known}."
    )


def _check_finite(path: Path, values: np.ndarray, names: tuple[str, ...]) -> None:
    floating = np.issubdtype(values.dtype, np.floating)
    bad = np.argwhere(np.abs(values, dtype=np.float64) >= LARGEST) if floating else np.empty((0, 2))  # NaN is missing
    if len(bad):
        row, column = map(int, bad[0])
        called = f" ({names[column]})" if names else ""
        raise InvalidInputError(
            f"{path} has {values[row, column]} at row {row}, column {column}{called}: remove or impute it."
        )


def _kind(
    path: Path, points: Tensor, stored: np.dtype, whole: bool, image: bool, levels: int | None
) -> tuple[int | None, bool]:
    """Of pixels, their levels; and whether the table is of whole numbers.

    Pixels are bytes, whole numbers in images, and what the caller says. Any other table of whole numbers has columns of its own kinds.
    """
    if levels is not None:
        bad = (points < 0) | (points >= levels) | ((points != points.round()) & ~points.isnan())
        if bool(bad.any()):
            row, column = bad.nonzero()[0].tolist()
            raise InvalidInputError(
                f"{path} has {points[row, column].item():g} at row {row}, column {column}: pixels of {levels} levels are whole "
                f"numbers from 0 to {levels - 1}."
            )
        return levels, False
    if not whole or is_binary(points):
        return None, False
    if stored == np.uint8:
        return 256, False
    if not image:
        return None, True
    if bool((points < 0).any()):
        raise InvalidInputError(
            f"{path} holds whole numbers below 0: pixels start at 0; save real data as floating point."
        )
    return int(points.max()) + 1, False


def _classes(labels: np.ndarray | None) -> tuple[Tensor | None, tuple[str, ...]]:
    """Labels as whole numbers from 0, and the name of each."""
    if labels is None:
        return None, ()
    names, classes = np.unique(labels, return_inverse=True)
    called = (f"{name:g}" if isinstance(name, np.floating) else str(name) for name in names)
    return torch.as_tensor(classes.reshape(-1), dtype=torch.int64), tuple(called)


def is_binary(points: Tensor) -> bool:
    """Whether all numbers that are there are 0 or 1."""
    return bool(((points == 0) | (points == 1) | points.isnan()).all())
