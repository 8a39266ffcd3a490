"""Points in files that are larger than memory together: `Shards`, a torch Dataset of the arrays of a folder."""

import bisect
import itertools
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import InvalidInputError, check_int

SUFFIXES = (".npy", ".npz", ".parquet")


class Shards(Dataset[Tensor]):
    """The rows of a `.npy` file, or of all `.npy`, `.npz` and `.parquet` files of a folder, for `fit` and `evaluate`.

    The files are read in the order of their names. A `.npy` file is read through a memory map. Of other files,
    `num_cached` are in memory at once. `fit` draws the order of the files at random, and the order of the rows of
    each `num_cached` files that follow one another. So every file is read once in an epoch.

    Args:
        path: A folder, or one file.
        array: The name of the array in `.npz` files. Default: the first.
        columns: The columns of `.parquet` files. Default: all.
        dtype: The type of the points.
        num_cached: How many files are in memory at once.

    Raises:
        InvalidInputError: There is no such file, or a file holds no points of the size of the others.

    Example:
        >>> import numpy, pathlib, pyrovae, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for number in range(3):
        ...     numpy.save(folder / f"{number}.npy", numpy.random.default_rng(number).normal(size=(40, 3)))
        >>> x = pyrovae.Shards(folder)
        >>> model, guide = pyrovae.load("ppca")(3, latent=1)
        >>> fit = pyrovae.fit(model, guide, x, epochs=2)
        >>> len(x), len(pyrovae.evaluate(model, guide, x))
        (120, 120)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        array: str | None = None,
        columns: Sequence[str] | None = None,
        dtype: torch.dtype = torch.float32,
        num_cached: int = 4,
    ):
        check_int("num_cached", num_cached, 1)
        path = Path(path)
        self.files = [path] if path.is_file() else sorted(file for file in path.glob("*") if file.suffix in SUFFIXES)
        if not self.files or any(file.suffix not in SUFFIXES for file in self.files):
            raise InvalidInputError(f"{path} is no {', '.join(SUFFIXES)} file, and no folder of such: name one.")
        self.array, self.columns, self.dtype, self.num_cached = array, columns, dtype, num_cached
        self._cache: dict[int, np.ndarray] = {}
        shapes = [self._shape(number) for number in range(len(self.files))]
        for file, shape in zip(self.files, shapes, strict=True):
            if len(shape) < 2 or shape[1:] != shapes[0][1:]:
                raise InvalidInputError(
                    f"{file} holds an array of shape {shape}, and {self.files[0]} one of {shapes[0]}: give a point to a row, "
                    "and all points one size."
                )
        self._ends = list(itertools.accumulate(shape[0] for shape in shapes))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, row: int) -> Tensor:
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        return self.__getitems__([row % len(self)])[0]

    def __getitems__(self, rows: list[int]) -> list[Tensor]:
        """The points of those rows. A loader asks for a batch at a time."""
        points = []
        for row in rows:
            number = bisect.bisect_right(self._ends, row)
            points.append(self._rows(number)[row - self._start(number)])
        x = torch.from_numpy(np.stack(points)).to(self.dtype)
        return list(x)

    def order(self) -> Tensor:
        """All rows in an order at random, by torch's random state: those of a few files, then those of the next few."""
        files = torch.randperm(len(self.files)).split(self.num_cached)
        parts = []
        for some in files:
            rows = torch.cat([torch.arange(self._start(number), self._ends[number]) for number in some.tolist()])
            parts.append(rows[torch.randperm(len(rows))])
        return torch.cat(parts)

    def _start(self, number: int) -> int:
        return self._ends[number - 1] if number else 0

    def _rows(self, number: int) -> np.ndarray:
        """The array of a file, which stays until as many others have been read."""
        if number not in self._cache:
            while len(self._cache) >= self.num_cached:
                self._cache.pop(next(iter(self._cache)))
            self._cache[number] = self._read(number)
        return self._cache[number]

    def _shape(self, number: int) -> tuple[int, ...]:
        """Of a file's array, by the file's header."""
        file = self.files[number]
        if file.suffix == ".parquet":
            try:
                import pyarrow.parquet
            except ImportError as error:
                raise InvalidInputError(f"{file} needs pyarrow: pip install pyarrow.") from error
            metadata = pyarrow.parquet.read_metadata(file)
            return metadata.num_rows, len(self.columns or metadata.schema.to_arrow_schema().names)
        return _npz_shape(file, self.array) if file.suffix == ".npz" else tuple(self._read(number).shape)

    def _read(self, number: int) -> np.ndarray:
        file = self.files[number]
        try:
            values = self._values(file)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise InvalidInputError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
        if not (np.issubdtype(values.dtype, np.number) or values.dtype == bool):
            raise InvalidInputError(f"{file} holds {values.dtype}: give numbers.")
        return values

    def _values(self, file: Path) -> Any:
        if file.suffix == ".npy":
            return np.load(file, mmap_mode="r", allow_pickle=False)
        if file.suffix == ".parquet":
            import pandas

            return pandas.read_parquet(file, columns=None if self.columns is None else list(self.columns)).to_numpy()
        with np.load(file, allow_pickle=False) as arrays:
            return arrays[self.array or arrays.files[0]]


def _npz_shape(file: Path, array: str | None) -> tuple[int, ...]:
    try:
        with (
            zipfile.ZipFile(file) as archive,
            archive.open(archive.namelist()[0] if array is None else f"{array}.npy") as header,
        ):
            one = np.lib.format.read_magic(header) == (1, 0)
            read = np.lib.format.read_array_header_1_0 if one else np.lib.format.read_array_header_2_0
            return tuple(read(header)[0])
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise InvalidInputError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
