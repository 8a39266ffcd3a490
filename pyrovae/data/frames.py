"""Tables in files that pandas reads: Parquet and Feather."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InvalidInputError
from .text_tables import Table

if TYPE_CHECKING:
    from pandas import DataFrame

FRAME_SUFFIXES = (".parquet", ".feather")


def read_frame(path: Path) -> Table:
    """Read a table with a point to a row. The index of the frame is no column.

    Raises `InvalidInputError` where pandas or the library that it reads the format with is not installed.
    """
    try:
        import pandas

        read = pandas.read_parquet if path.suffix == ".parquet" else pandas.read_feather
        frame = read(path)
    except ImportError as error:
        raise InvalidInputError(
            f"{path} needs pandas and pyarrow: pip install pandas pyarrow, or save it as .csv."
        ) from error
    return table_of(frame)


def table_of(frame: "DataFrame") -> Table:
    """The columns of a frame: numbers, missing ones as NaN; and texts, whatever is no number."""
    from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

    values = np.full(frame.shape, np.nan)
    texts, whole = dict[int, np.ndarray](), True
    for place in range(frame.shape[1]):
        column = frame.iloc[:, place]
        if not is_numeric_dtype(column.dtype):
            texts[place] = column.astype(str).to_numpy()
            continue
        whole &= is_integer_dtype(column.dtype) or is_bool_dtype(column.dtype)
        values[:, place] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return Table(values, tuple(map(str, frame.columns)), texts, whole, 1)
