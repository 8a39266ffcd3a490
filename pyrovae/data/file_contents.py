"""What files of arrays and tables hold: one file, or all of a folder, whose points follow one another."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import InvalidInputError
from .frames import FRAME_SUFFIXES, read_frame
from .text_tables import read_text_table

SUFFIXES = (".npy", ".npz", ".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", *FRAME_SUFFIXES)
HALVES = ("train", "test")


@dataclass
class Content:
    """Arrays, and what is known of their columns."""

    arrays: list[np.ndarray]  # one, or training and test points
    names: tuple[str, ...] = ()
    texts: dict[int, np.ndarray] = field(default_factory=dict)
    labels: np.ndarray | None = None
    whole: bool = False  # whole numbers, as they were stored


def halves_of(folder: Path) -> list[Path]:
    """The folders `train` and `test`, if there are both."""
    halves = [folder / half for half in HALVES]
    return halves if all(half.is_dir() for half in halves) else []


def _is_readable(path: Path) -> bool:
    return path.is_file() and path.name.endswith(SUFFIXES) and not path.name.startswith(".")


def read_content(path: Path) -> Content:
    """Read a file, or the files of a folder. Folders `train` and `test` in it are the split.

    Raises `InvalidInputError` for a file that is not whole, and for files whose columns are not the same.
    """
    if not path.is_dir():
        return _read_whole(path)
    halves = halves_of(path)
    if not halves:
        return _joined(path)
    train, test = (_joined(half) for half in halves)
    both = _end_to_end(halves, [train, test])
    return Content([train.arrays[0], test.arrays[0]], both.names, both.texts, both.labels, both.whole)


def _joined(folder: Path) -> Content:
    files = sorted(path for path in folder.iterdir() if _is_readable(path))
    if not files:
        raise InvalidInputError(
            f"{folder} has no files of points or images: points are in {', '.join(SUFFIXES)} files."
        )
    contents = [_read_whole(file) for file in files]
    for file, content in zip(files, contents, strict=True):
        if len(content.arrays) > 1:
            raise InvalidInputError(f"{file} has a split of its own, so it is no part of a folder: name it alone.")
    return _end_to_end(files, contents)


def _end_to_end(places: list[Path], contents: list[Content]) -> Content:
    """The points of all, in their order. `places` are what the contents are called."""
    first = contents[0]
    for place, content in zip(places, contents, strict=True):
        shape, known = content.arrays[0].shape[1:], first.arrays[0].shape[1:]
        if shape != known:
            raise InvalidInputError(
                f"{place} holds points of shape {shape}, and {places[0]} of {known}: give all points one size."
            )
        if content.names != first.names:
            raise InvalidInputError(
                f"{place} has the columns {', '.join(content.names) or '(without names)'}, and {places[0]} "
                f"{', '.join(first.names) or '(without names)'}: give all files the same columns."
            )
        if (content.labels is None) != (first.labels is None):
            raise InvalidInputError(f"{place} and {places[0]} do not both have labels: give all files 'X' and 'y'.")
        for column in content.texts.keys() ^ first.texts.keys():
            called = content.names[column] if content.names else str(column)
            raise InvalidInputError(
                f"Column '{called}' is text in one of {place} and {places[0]}, and numbers in the other: give it one kind."
            )
    labels = None if first.labels is None else np.concatenate([content.labels for content in contents])
    return Content(
        [np.concatenate([content.arrays[0] for content in contents])],
        first.names,
        {column: np.concatenate([content.texts[column] for content in contents]) for column in first.texts},
        labels,
        all(content.whole for content in contents),
    )


def _read_whole(path: Path) -> Content:
    if not path.is_file():
        raise InvalidInputError(f"There is no data file {path}.")
    try:
        content = _read_file(path)
    except InvalidInputError:
        raise
    except Exception as error:  # NumPy and zipfile raise many kinds for a file that is not whole
        reason = " ".join(str(error).split()).rstrip(".")
        raise InvalidInputError(
            f"{path} cannot be read as {path.suffix}, it is truncated or not of that kind: {reason}."
        ) from error
    _check_arrays(path, content.arrays)
    return content


def _check_arrays(path: Path, arrays: Sequence[np.ndarray]) -> None:
    for array in arrays:
        if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool) or array.ndim < 2 or array.size == 0:
            raise InvalidInputError(
                f"{path} holds {array.dtype} of shape {array.shape}: it must be numbers, a point to a row, (N, D)."
            )
        if np.issubdtype(array.dtype, np.complexfloating):
            raise InvalidInputError(f"{path} holds complex numbers: split them into real columns.")


def _read_file(path: Path) -> Content:
    if path.suffix == ".npy":
        array = np.load(path, allow_pickle=False)
        return Content([array], whole=np.issubdtype(array.dtype, np.integer))
    if path.suffix == ".npz":
        return _read_archive(path)
    table = read_frame(path) if path.suffix in FRAME_SUFFIXES else read_text_table(path)
    return Content([table.values], table.names, table.texts, whole=table.whole)


def _read_archive(path: Path) -> Content:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if {"indptr", "indices", "data"} <= arrays.keys():
        raise InvalidInputError(f"{path} holds a sparse matrix: save it as an array, np.save(file, X.toarray()).")
    if "train" in arrays and "test" in arrays:
        used = [arrays["train"], arrays["test"]]
        if used[0].ndim == used[1].ndim >= 2 and used[0].shape[1:] != used[1].shape[1:]:
            sizes = [int(np.prod(array.shape[1:])) for array in used]
            raise InvalidInputError(f"'train' and 'test' of {path} have {sizes[0]} and {sizes[1]} columns.")
        labels = None
    elif arrays.keys() == {"X", "y"} and len(arrays["X"]) == len(arrays["y"]):
        used, labels = [arrays["X"]], arrays["y"]
    elif len(arrays) == 1:
        used, labels = list(arrays.values()), None
    else:
        raise InvalidInputError(
            f"{path} holds {', '.join(arrays)}: name the arrays 'train' and 'test', or 'X' and 'y', or keep only one."
        )
    return Content(used, labels=labels, whole=all(np.issubdtype(array.dtype, np.integer) for array in used))
