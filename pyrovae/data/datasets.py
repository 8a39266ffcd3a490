"""Data as tensors: data sets known by name, arrays from files; split, transformed, and checked."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidInputError, did_you_mean
from .builtin import NAMES, load_builtin
from .files import read_arrays
from .raw import RawData, given_split, random_split
from .stochastic import StochasticData
from .transforms import Binarise, Dequantise, Identity, Levels, Logit, Threshold, Transform

TRANSFORMS: dict[str, Callable[[int], Transform]] = {
    "dequantise": Dequantise,
    "logit": Logit,
    "binarise": Binarise,
    "threshold": Threshold,
    "levels": Levels,
}


@dataclass(frozen=True)
class Data:
    """A data set ready for use: x for training and the held-out x (N, D), single precision, and how both came about.

    What the source says of its points and columns travels along. No model sees it unasked.

    Attributes:
        train, test: x (N, D) for training, and held out.
        transform: What made x.
        split, seed: How the points were split, in words, and the seed of it.
        shape: (height, width) of one image; None if x is no image.
        column_names: The names of x's D columns; () where the source has none.
        labels: The class of every point of the source, in its order, int64 from 0; None where the source has none.
        label_names: The name of each class; () where there are none.
        train_rows, test_rows: Which rows of the source `train` and `test` are, so that `labels[test_rows]` are those of `test`.

    Example:
        >>> import pyrovae
        >>> data = pyrovae.load_data("digits")
        >>> data.dim, data.shape, int(data.test_labels.max())
        (64, (8, 8), 9)
    """

    name: str
    train: Tensor | StochasticData = field(repr=False)
    test: Tensor = field(repr=False)
    transform: Transform
    split: str
    seed: int
    shape: tuple[int, int] | None
    column_names: tuple[str, ...] = field(default=(), repr=False)
    labels: Tensor | None = field(default=None, repr=False)
    label_names: tuple[str, ...] = field(default=(), repr=False)
    train_rows: Tensor | None = field(default=None, repr=False)
    test_rows: Tensor | None = field(default=None, repr=False)

    @property
    def dim(self) -> int:
        return self.test.shape[1]

    @property
    def train_labels(self) -> Tensor | None:
        """The classes of the points of `train`; None where there are none."""
        return None if self.labels is None or self.train_rows is None else self.labels[self.train_rows]

    @property
    def test_labels(self) -> Tensor | None:
        """The classes of the points of `test`; None where there are none."""
        return None if self.labels is None or self.test_rows is None else self.labels[self.test_rows]

    def to(self, device: torch.device | str) -> "Data":
        return replace(self, train=self.train.to(device), test=self.test.to(device))

    def metadata(self) -> dict[str, Any]:
        """What a number needs to say of its data."""
        return {
            "data": self.name,
            "split": self.split,
            "split_seed": self.seed,
            "train_points": len(self.train),
            "test_points": len(self.test),
            "transform": str(self.transform),
            "base_measure": self.transform.base_measure(self.dim),
        }


def load_data(
    name_or_file: str | Path,
    transform: str | None = None,
    *,
    seed: int = 0,
    root: str | Path | None = None,
    download: bool = False,
    split: bool = True,
) -> Data:
    """Load a data set by its name or from a file, split it, and transform it.

    Args:
        name_or_file: `digits`, `mnist`, `iris`, `wine`, `breast_cancer`, or a .npy, .npz or .csv file of points in
            rows.
        transform: "dequantise", "logit", "binarise", "threshold" or "levels". Default: that of the data, which is
            "dequantise" for pixels, and none for files of real numbers or of {0, 1}.
        seed: Of the split, where the data come without one, and of the noise that is drawn once.
        root: The folder of downloaded data.
        download: Whether data may be downloaded.
        split: False holds out all points of a file that has no split of its own.

    Returns:
        The data, in single precision.

    Raises:
        InvalidInputError: The name is unknown, the file cannot be read, a value is NaN, or a column is constant where
            x must have a density.

    Example:
        >>> import pyrovae
        >>> data = pyrovae.load_data("iris")
        >>> data.train.shape, data.test.shape
        (torch.Size([120, 4]), torch.Size([30, 4]))
    """
    name = str(name_or_file)
    generator = torch.Generator().manual_seed(seed)
    if name in NAMES:
        raw = load_builtin(name, generator, root, download)
    elif name.endswith((".npy", ".npz", ".csv")):
        raw = _load_file(Path(name), generator, split)
    else:
        raise InvalidInputError(
            f"There is no data set '{name}'{did_you_mean(name.lower(), NAMES)}: give {', '.join(NAMES)}, or the path of a .npy, "
            ".npz or .csv file."
        )
    train, test = (raw.values[rows].float() for rows in (raw.train_rows, raw.test_rows))
    chosen = _transform(name, transform, raw.levels, _is_binary(raw.values))
    held_out = chosen(test, generator)
    data = Data(
        name=name if name in NAMES else Path(name).name,
        train=StochasticData(train, chosen) if chosen.fresh else chosen(train, generator),
        test=held_out,
        transform=chosen,
        split=raw.split,
        seed=seed,
        shape=raw.shape,
        column_names=raw.column_names,
        labels=raw.labels,
        label_names=raw.label_names,
        train_rows=raw.train_rows,
        test_rows=raw.test_rows,
    )
    if not chosen.discrete:
        _check_not_constant(data)
    return data


def _load_file(path: Path, generator: torch.Generator, split: bool) -> RawData:
    if not path.is_file():
        raise InvalidInputError(f"There is no data file {path}.")
    try:
        arrays = read_arrays(path)
    except InvalidInputError:
        raise
    except Exception as error:  # NumPy and zipfile raise many kinds for a file that is not whole
        reason = " ".join(str(error).split()).rstrip(".")
        raise InvalidInputError(
            f"{path} cannot be read as {path.suffix}, it is truncated or not of that kind: {reason}."
        ) from error
    if "train" in arrays and "test" in arrays:
        used = [arrays["train"], arrays["test"]]
    elif len(arrays) == 1:
        used = list(arrays.values())
    else:
        raise InvalidInputError(
            f"{path} holds {', '.join(arrays)}: name the arrays 'train' and 'test', or keep only one."
        )
    for array in used:
        if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool) or array.ndim < 2 or array.size == 0:
            raise InvalidInputError(
                f"{path} holds {array.dtype} of shape {array.shape}: it must be numbers, a point to a row, (N, D)."
            )
        if np.issubdtype(array.dtype, np.complexfloating):
            raise InvalidInputError(f"{path} holds complex numbers: split them into real columns.")
    shape = (int(used[0].shape[1]), int(used[0].shape[2])) if used[0].ndim == 3 else None
    with np.errstate(over="ignore"):  # what single precision cannot hold becomes inf, and is refused below
        tensors = [torch.as_tensor(array.astype(np.float32)).flatten(1) for array in used]
    for tensor in tensors:
        bad = ~torch.isfinite(tensor)
        if bool(bad.any()):
            row, column = bad.nonzero()[0].tolist()
            raise InvalidInputError(
                f"{path} has {tensor[row, column].item()} at row {row}, column {column}: remove or impute it."
            )
    levels = None
    if not all(map(_is_binary, tensors)) and all(np.issubdtype(array.dtype, np.integer) for array in used):
        if any(array.min() < 0 for array in used):
            raise InvalidInputError(
                f"{path} holds whole numbers below 0: pixels start at 0; save real data as floating point."
            )
        levels = 256 if used[0].dtype == np.uint8 else int(max(array.max() for array in used)) + 1
    if len(tensors) == 2 and tensors[0].shape[1] != tensors[1].shape[1]:
        raise InvalidInputError(
            f"'train' and 'test' of {path} have {tensors[0].shape[1]} and {tensors[1].shape[1]} columns."
        )
    values = torch.cat(tensors)
    if len(tensors) == 2:
        rows = given_split(len(tensors[0]), len(tensors[1]), "the file's")
    elif not split:
        every = torch.arange(len(values))
        rows = every, every, f"all {len(values)} points of the file"
    else:
        rows = random_split(len(values), generator)
    return RawData(values, *rows, levels=levels, shape=shape)


def _is_binary(points: Tensor) -> bool:
    return bool(((points == 0) | (points == 1)).all())


def _transform(name: str, transform: str | None, levels: int | None, binary: bool) -> Transform:
    if transform is None:
        return Dequantise(levels) if levels is not None else Identity(discrete=binary)
    if transform == "none":
        if levels is not None:
            raise InvalidInputError(
                f"The pixels of {name} are whole numbers, and have no density as they are: give one of "
                f"{', '.join(TRANSFORMS)}."
            )
        return Identity(discrete=binary)
    if transform not in TRANSFORMS:
        known = [*TRANSFORMS, "none"]
        raise InvalidInputError(
            f"There is no transform '{transform}'{did_you_mean(transform, known)}: give one of {', '.join(known)}."
        )
    if levels is None:
        raise InvalidInputError(
            f"{name} has no pixel levels to {transform}: save pixels as an array of integers, or leave the transform out."
        )
    return TRANSFORMS[transform](levels)


def _check_not_constant(data: Data) -> None:
    x = data.train[:]
    constant = (x == x[0]).all(dim=0).nonzero().flatten().tolist()
    if constant:
        columns = ", ".join(map(str, constant[:5])) + (", …" if len(constant) > 5 else "")
        raise InvalidInputError(
            f"{len(constant)} of the {data.dim} columns of {data.name} are constant (column {columns}): a density there grows "
            "without bound; drop them, or save pixels as an array of integers so that they are dequantised."
        )
