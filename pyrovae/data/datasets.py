"""Data as tensors: embedded digits, MNIST by torchvision, arrays from files; split, transformed, and checked."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidInputError, did_you_mean
from .files import read_arrays
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
    """A data set ready for use: x for training and the held-out x (N, D), single precision, and how both came about."""

    name: str
    train: Tensor | StochasticData = field(repr=False)
    test: Tensor = field(repr=False)
    transform: Transform
    split: str
    seed: int
    shape: tuple[int, int] | None  # of one image; None if x is no image

    @property
    def dim(self) -> int:
        return self.test.shape[1]

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
    """`digits`, `mnist`, or a .npy, .npz or .csv file of points in rows.

    `transform` is dequantise, logit, binarise, threshold, levels, or None for the data's own: dequantise for pixels, none for files
    of real numbers or of {0, 1}. `seed` fixes the split, where the data come without one, and the noise that is drawn once.
    `split=False` leaves a file without a split of its own unsplit: all its points are held-out points.

    Raises `InvalidInputError` for an unknown name, an unreadable file, NaN, and columns that are constant where x must have a density.
    """
    name = str(name_or_file)
    generator = torch.Generator().manual_seed(seed)
    if name == "digits":
        train, test, levels, how, shape = _digits(generator)
    elif name == "mnist":
        train, test, levels, how, shape = _mnist(root, download)
    elif name.endswith((".npy", ".npz", ".csv")):
        train, test, levels, how, shape = _load_file(Path(name), generator, split)
    else:
        raise InvalidInputError(
            f"There is no data set '{name}'{did_you_mean(name.lower(), ['digits', 'mnist'])}: give digits, mnist, or the path of a .npy, .npz "
            "or .csv file."
        )
    chosen = _transform(name, transform, levels, _is_binary(train) and _is_binary(test))
    held_out = chosen(test, generator)
    data = Data(
        name=name if name in ("digits", "mnist") else Path(name).name,
        train=StochasticData(train, chosen) if chosen.fresh else chosen(train, generator),
        test=held_out,
        transform=chosen,
        split=how,
        seed=seed,
        shape=shape,
    )
    if not chosen.discrete:
        _check_not_constant(data)
    return data


def default_root() -> Path:
    """Where MNIST is looked for: $PYROVAE_DATA, or the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return Path(os.environ.get("PYROVAE_DATA", cache / "pyrovae"))


_Raw = tuple[Tensor, Tensor, int | None, str, tuple[int, int] | None]  # train, test, pixel levels, split, image shape


def _digits(generator: torch.Generator) -> _Raw:
    from sklearn.datasets import load_digits

    pixels = torch.as_tensor(load_digits().data, dtype=torch.float32)  # (1797, 64), 0 … 16
    train, test, split = _split(pixels, generator)
    return train, test, 17, split, (8, 8)


def _mnist(root: str | Path | None, download: bool) -> _Raw:
    from torchvision.datasets import MNIST

    where = Path(root) if root is not None else default_root()
    try:
        sets = [MNIST(str(where), train=train, download=download).data for train in (True, False)]
    except Exception as error:  # torchvision checks that the files exist; what is in them shows as errors of many kinds
        reason = " ".join(str(error).split())
        if "Dataset not found" in reason:
            raise InvalidInputError(
                f"MNIST is not in {where}: name the folder that holds MNIST/raw (--root, or $PYROVAE_DATA), or allow the "
                "download (--download)."
            ) from error
        if "Error downloading" in reason:
            raise InvalidInputError(
                f"MNIST could not be downloaded to {where}, check the connection: {reason}"
            ) from error
        raise InvalidInputError(
            f"MNIST in {where} cannot be read, its files are truncated or corrupt ({type(error).__name__}"
            f"{f': {reason}' if reason else ''}): delete them and get them again."
        ) from error
    for pixels in sets:
        if pixels.shape[1:] != (28, 28) or len(pixels) == 0:
            raise InvalidInputError(
                f"MNIST in {where} holds an array of shape {tuple(pixels.shape)} where images of 28 × 28 belong: delete its "
                "files and get them again."
            )
    train, test = (pixels.flatten(1).float() for pixels in sets)
    return train, test, 256, f"{len(train)} train / {len(test)} test, torchvision's", (28, 28)


def _load_file(path: Path, generator: torch.Generator, split: bool) -> _Raw:
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
    if len(tensors) == 2:
        if tensors[0].shape[1] != tensors[1].shape[1]:
            raise InvalidInputError(
                f"'train' and 'test' of {path} have {tensors[0].shape[1]} and {tensors[1].shape[1]} columns."
            )
        train, test = tensors
        how = f"{len(train)} train / {len(test)} test, the file's"
    elif not split:
        train, test, how = tensors[0], tensors[0], f"all {len(tensors[0])} points of the file"
    else:
        train, test, how = _split(tensors[0], generator)
    return train, test, levels, how, shape


def _is_binary(points: Tensor) -> bool:
    return bool(((points == 0) | (points == 1)).all())


def _split(points: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, str]:
    """Four fifths to train on, one fifth held out, at random."""
    held_out = len(points) // 5
    if held_out < 1:
        raise InvalidInputError(f"{len(points)} points are too few to hold some out: give at least 5.")
    order = torch.randperm(len(points), generator=generator)
    train, test = points[order[held_out:]], points[order[:held_out]]
    return train, test, f"{len(train)} train / {len(test)} test, at random"


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
