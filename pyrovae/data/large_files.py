"""Arrays in files larger than memory: read block by block through a memory map, and made into x on the way."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidInputError
from .streams import BLOCK_ROWS, PointStream
from .transform import Transform

LARGE_BYTES = 2**30  # of a file, from which it is not read as a whole


def is_large(path: Path) -> bool:
    """Whether a file is an array that is read block by block."""
    return path.suffix == ".npy" and path.is_file() and path.stat().st_size >= LARGE_BYTES


def read_large(path: Path, transform: Transform, generator: torch.Generator, dtype: torch.dtype) -> PointStream:
    """Return x (N, D) of an array (N, ...) in a file, by a transform that is fitted already.

    The numbers are those of the file that is read as a whole: noise is drawn from `generator` in the order of the points.

    Raises `InvalidInputError` for a file that is no array of numbers, and for values that the transform is not made for.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path} cannot be read as .npy: {' '.join(str(error).split())}") from error
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool) or array.ndim < 2 or array.size == 0:
        raise InvalidInputError(
            f"{path} holds {array.dtype} of shape {array.shape}: it must be numbers, a point to a row, (N, D)."
        )
    start_state = generator.get_state()
    pixels = getattr(transform, "before", transform).pixels
    precision = dtype if pixels else torch.float64  # as `load_data` has it

    def read(block: int) -> Iterator[Tensor]:
        noise = torch.Generator()
        noise.set_state(start_state)
        for start in range(0, len(array), BLOCK_ROWS):
            values = torch.from_numpy(np.array(array[start : start + BLOCK_ROWS], dtype=np.float64)).flatten(1)
            transform.check(values, start)
            yield transform(values.to(precision), noise).to(dtype)

    return PointStream(read, torch.device("cpu"), dtype, jump=False)
