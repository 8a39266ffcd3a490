"""A file with its missing cells filled: all else of it stays as it was written."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..errors import InvalidInputError
from .text_tables import cells_of, is_missing, read_lines


def filled_text(path: Path, columns: Sequence[str], dropped: Sequence[str], values: Tensor) -> str:
    """Return the text of a table with `values` in its missing cells.

    Args:
        path: The file that was read.
        columns: The names of x's columns; () where the file has none.
        dropped: The numbers of the columns that are no part of x, where the file has no names.
        values: x (N, D), in the units of the file.
    """
    lines = read_lines(path)
    width = len(cells_of(lines.body[0][1], lines.separator))
    if columns and lines.names:
        places = [lines.names.index(name) for name in columns if name in lines.names]
    else:
        places = [place for place in range(width) if str(place) not in dropped]
    if len(lines.body) != len(values) or len(places) != values.shape[1]:
        raise InvalidInputError(f"The columns of {path} cannot be told from its header: name all of them there.")
    rows = [cells_of(line, lines.separator) for _, line in lines.body]
    comma = lines.separator != "," and not any("." in row[place] for row in rows for place in places)
    for row, point in zip(rows, values.tolist(), strict=True):
        for place, value in zip(places, point, strict=True):
            if is_missing(row[place]):
                text = f"{value:.8g}"
                row[place] = text.replace(".", ",") if comma else text
    stream = io.StringIO()
    table = csv.writer(stream, delimiter=lines.separator, lineterminator="\n")
    table.writerows([lines.names, *rows] if lines.names else rows)
    return stream.getvalue()
