"""Data as tensors: data sets known by name, arrays from files; split, transformed, and checked."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInputError, did_you_mean
from ..utils.notebook import ShownAsHTML
from .builtin import NAMES, load_builtin
from .columns import (
    check_not_constant,
    check_observed,
    few_values,
    few_values_message,
    missing_message,
    resolving_dtype,
    rounding_message,
)
from .file_contents import SUFFIXES
from .files import Reading, is_binary, load_file
from .image_folders import has_images, load_image_folder
from .large_files import is_large, read_large
from .raw import RawData
from .stochastic import StochasticData
from .transforms import (
    Binarise,
    Dequantise,
    DequantiseTable,
    Identity,
    Levels,
    Logit,
    Standardise,
    Threshold,
    Transform,
)

OF_PIXELS: dict[str, Callable[[int], Transform]] = {
    "dequantise": Dequantise,
    "logit": Logit,
    "binarise": Binarise,
    "threshold": Threshold,
    "levels": Levels,
}
TRANSFORMS = (*OF_PIXELS, "standardise")
DTYPES = {"float32": torch.float32, "float64": torch.float64}

log = logging.getLogger("pyrovae")


@dataclass(frozen=True)
class Data(ShownAsHTML):
    """A data set ready for use: x for training and the held-out x (N, D), and how both came about.

    What the source says of its points and columns travels along. No model sees it unasked.

    Attributes:
        train, test: x (N, D) for training, and held out.
        transform: What made x.
        split, seed: How the points were split, in words, and the seed of it.
        shape: (height, width) of one image, or (height, width, 3) in colours; None if x is no image.
        column_names: The names of x's D columns; () where the source has none.
        labels: The class of every point of the source, in its order, int64 from 0; None where the source has none.
        label_names: The name of each class; () where there are none.
        notes: What is to be known of columns, a sentence each.
        few_values: The columns of x that take few values in the training points, where x has a density.
        reading: How the source was read: the arguments of `load_data` that are not its defaults.
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
    shape: tuple[int, ...] | None
    column_names: tuple[str, ...] = field(default=(), repr=False)
    labels: Tensor | None = field(default=None, repr=False)
    label_names: tuple[str, ...] = field(default=(), repr=False)
    train_rows: Tensor | None = field(default=None, repr=False)
    test_rows: Tensor | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    few_values: tuple[int, ...] = field(default=(), repr=False)
    reading: dict[str, Any] = field(default_factory=dict, repr=False)

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

    @property
    def test_label_names(self) -> list[str] | None:
        """The name of the class of each point of `test`; None where there are none."""
        labels = self.test_labels
        return None if labels is None else [self.label_names[label] for label in labels.tolist()]

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
            "column_names": list(self.column_names),
            "notes": list(self.notes),
        }


def load_data(
    name_or_file: str | Path,
    transform: str | Transform | None = None,
    *,
    seed: int = 0,
    root: str | Path | None = None,
    download: bool = False,
    split: bool = True,
    label: str | None = None,
    drop: Sequence[str] | None = None,
    levels: int | None = None,
    dtype: str | None = None,
    columns: Sequence[str] = (),
) -> Data:
    """Load a data set by its name or from a file, split it, and transform it.

    Names are `digits`, `iris`, `wine`, `breast_cancer`, `mnist`, `fashion-mnist`, `kmnist`, `emnist`, `cifar10`,
    `omniglot` and `binarised-mnist`. Files are .npy, .npz, .csv, .tsv and .txt, also as .gz, with one point
    per row. Files .parquet and .feather need pyarrow. A folder has images, or else such files, whose points follow
    one another. Folders `train` and `test` in it are the split. Cells without a value are NaN in x: empty ones, ?, NA
    and the like.

    Args:
        name_or_file: The name, or the path.
        transform: "dequantise", "standardise", "logit", "binarise", "threshold", "levels" or "none". A `Transform`
            object is applied as it is, with all that was fitted. Default: "dequantise" for pixels and tables of whole
            numbers, else "none".
        seed: Of the split, where the data come without one, and of the noise that is drawn once.
        root: The folder with MNIST/raw, or with the files of another set of images. Default: $PYROVAE_DATA, or the
            user's cache.
        download: Whether the images may be downloaded.
        split: False holds out all points of a file that has no split of its own.
        label: The name of a column that holds labels, or its number where a file has no names. It is taken out of x.
        drop: Columns to leave out.
        levels: The numbers of a file are pixels of this many levels. Bytes, and whole numbers in images, are pixels
            by themselves.
        dtype: "float32" or "float64". Default: float32, or float64 for a table whose columns single precision would
            blur. These have values far from 0 beside their standard deviation, or standard deviations a thousand
            times apart.
        columns: The names of the columns that x is to have, for a file that has names.

    Returns:
        The data.

    Raises:
        InvalidInputError: The name is unknown, the file cannot be read, or a column has no value. A column is text, or
            constant where x must have a density. Values do not suit the given transform.

    Example:
        >>> import pyrovae
        >>> data = pyrovae.load_data("iris")
        >>> data.train.shape, data.test.shape
        (torch.Size([120, 4]), torch.Size([30, 4]))
    """
    name = str(name_or_file)
    if dtype is not None and dtype not in DTYPES:
        raise InvalidInputError(f"There is no dtype '{dtype}': give float32 or float64.")
    generator = torch.Generator().manual_seed(seed)
    reading = Reading(label, tuple(drop or ()), levels, tuple(columns))
    if name in NAMES:
        if label is not None or drop or levels is not None:
            raise InvalidInputError(
                f"{name} has its labels and pixels by itself: label, drop and levels are for files."
            )
        raw = load_builtin(name, generator, root, download)
    elif isinstance(transform, Transform) and not split and is_large(Path(name)) and not (label or drop):
        return _large(Path(name), transform, generator, seed, DTYPES[dtype or "float32"])
    elif Path(name).is_dir() and has_images(Path(name)):
        if label is not None or drop or levels is not None:
            raise InvalidInputError(f"{name} is a folder of images: label, drop and levels are for files.")
        raw = load_image_folder(Path(name), generator, split)
    elif name.endswith(SUFFIXES) or Path(name).is_dir():
        raw = load_file(Path(name), generator, reading, split)
    else:
        raise InvalidInputError(
            f"There is no data set '{name}'{did_you_mean(name.lower(), NAMES)}: give {', '.join(NAMES)}, or the path of a "
            f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file, or of a folder of such files or of images."
        )
    if isinstance(transform, Transform):
        transform.check(raw.values)
        chosen = transform
    else:
        chosen = _transform(name, transform, raw)
    # of pixels, noise is drawn in the precision of x; tables are transformed in double precision
    precision = torch.float64 if raw.levels is None else DTYPES[dtype or "float32"]
    train, test = (raw.values[rows].to(precision) for rows in (raw.train_rows, raw.test_rows))
    x_test = chosen(test, generator)
    x_train = StochasticData(train, chosen) if chosen.fresh else chosen(train, generator)
    data = Data(
        name=name if name in NAMES else Path(name).name,
        train=x_train,
        test=x_test,
        transform=chosen,
        split=raw.split,
        seed=seed,
        shape=raw.shape,
        column_names=raw.column_names,
        labels=raw.labels,
        label_names=raw.label_names,
        train_rows=raw.train_rows,
        test_rows=raw.test_rows,
        notes=(*raw.notes, *filter(None, [missing_message(raw.values, raw.column_names)])),
        reading={key: value for key, value in {**asdict(reading), "dtype": dtype}.items() if value not in (None, ())},
    )
    if not isinstance(transform, Transform):
        check_observed(data.train[:], data.name, data.column_names)
        if not chosen.discrete:
            check_not_constant(data.train[:], data.name, data.column_names)
    if transform == "standardise":
        data = _standardised(data)
    if raw.levels is None:
        if split or not isinstance(transform, Transform):  # else a model was fitted to other points
            data = replace(data, few_values=_few_values(data))
            data = replace(data, notes=(*data.notes, *_column_notes(data.train[:], data, dtype)))
        data = _in_precision(data, None if dtype is None else DTYPES[dtype])
    for note in data.notes:
        log.warning("%s: %s", data.name, note)
    return data


def _large(path: Path, transform: Transform, generator: torch.Generator, seed: int, dtype: torch.dtype) -> Data:
    """All points of a file that is larger than memory, by a transform that is fitted already."""
    x = read_large(path, transform, generator, dtype)
    return Data(
        name=path.name,
        train=x,  # type: ignore[arg-type]
        test=x,  # type: ignore[arg-type]
        transform=transform,
        split=f"all {len(x)} points of the file",
        seed=seed,
        shape=None,
        train_rows=torch.arange(len(x)),
        test_rows=torch.arange(len(x)),
    )


def _standardised(data: Data) -> Data:
    """The data with columns of mean 0 and variance 1 over the training points."""
    if data.transform.discrete:
        raise InvalidInputError(f"{data.name} has probabilities, and no units: leave standardise out.")
    fitted = Standardise.fitted(data.train[:], data.transform)
    train, test = (fitted.scaled(x) for x in (data.train[:], data.test))
    return replace(data, train=train, test=test, transform=fitted)


def _in_precision(data: Data, dtype: torch.dtype | None) -> Data:
    """A table in the precision that resolves it, or in `dtype`."""
    if dtype is None:
        dtype = torch.float32 if data.transform.discrete else resolving_dtype(data.train[:])
    train = data.train if isinstance(data.train, StochasticData) else data.train.to(dtype)
    return replace(data, train=train, test=data.test.to(dtype))


def _column_notes(x: Tensor, data: Data, dtype: str | None) -> Iterator[str]:
    """What is to be known of the columns of x (N, D), the training points in double precision, before a density is fitted to them."""
    if data.transform.discrete:
        return
    if dtype == "float32" and (message := rounding_message(x, data.column_names)):
        yield message
    if data.few_values:
        yield few_values_message(data.few_values, data.column_names)


def _few_values(data: Data) -> tuple[int, ...]:
    has_density = isinstance(data.transform, Identity | Standardise) and not data.transform.discrete
    return tuple(few_values(data.train[:])) if has_density else ()


def _transform(name: str, transform: str | None, raw: RawData) -> Transform:
    """The transform of that name for these data; of standardise, what comes before it."""
    binary = raw.levels is None and is_binary(raw.values)
    if transform not in (None, "none", *TRANSFORMS):
        known = [*TRANSFORMS, "none"]
        raise InvalidInputError(
            f"There is no transform '{transform}'{did_you_mean(str(transform), known)}: give one of {', '.join(known)}."
        )
    if transform in (None, "standardise", "dequantise"):
        if raw.levels is not None:
            return Dequantise(raw.levels)
        if raw.whole:
            return DequantiseTable()
        if transform != "dequantise":
            return Identity(discrete=binary)
    if transform == "none":
        if raw.levels is not None:
            raise InvalidInputError(
                f"The pixels of {name} are whole numbers, and have no density as they are: give one of {', '.join(TRANSFORMS)}."
            )
        return Identity(discrete=binary)
    levels = raw.levels
    if raw.whole and not bool((raw.values < 0).any()):
        levels = (
            int(raw.values.nan_to_num(0).max()) + 1
        )  # whoever asks for a transform of pixels says that these are pixels
    if levels is None:
        raise InvalidInputError(
            f"{name} has no pixel levels to {transform}: save pixels as an array of integers, or leave the transform out."
        )
    return OF_PIXELS[str(transform)](levels)
