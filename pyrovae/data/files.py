"""Points from .npy, .npz and .csv files."""

from pathlib import Path

import numpy as np

from ..errors import InvalidInputError


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a .npy, .npz or .csv file, by name."""
    if path.suffix == ".npy":
        return {"x": np.load(path, allow_pickle=False)}
    if path.suffix == ".npz":
        with path.open("rb") as content, np.load(content, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    with path.open(encoding="utf-8-sig") as file:
        rows = [(number, line) for number, line in enumerate(file, 1) if line.strip()]
    lines = [line for _, line in rows]
    # one number in it makes the first line a point: it is never dropped for a cell that cannot be read
    header = bool(lines) and not any(map(_is_number, lines[0].split(",")))
    if len(lines) == header:
        raise ValueError("it has no points")
    try:
        values = np.loadtxt(lines[header:], delimiter=",", ndmin=2)
    except ValueError:
        _check_cells(path, rows[header:])
        raise
    whole = not any("." in line for line in lines[header:]) and bool(
        (values >= 0).all() and (values == values.round()).all()
    )
    return {"x": values.astype(np.int64) if whole else values}  # text has no type: pixels are written without a point


def _check_cells(path: Path, lines: list[tuple[int, str]]) -> None:
    """Find the first cell that is no number, or the first row that is longer or shorter than those before.

    Rows and columns count from 0, as everywhere. The line of the file is named too.
    """
    remedy = "fill it in, or remove the row"
    width = lines[0][1].count(",") + 1
    for row, (number, line) in enumerate(lines):
        cells = line.strip().split(",")
        for column, cell in enumerate(cells):
            if not _is_number(cell):
                what = f"has '{cell.strip()}', which is no number," if cell.strip() else "misses a value"
                raise InvalidInputError(
                    f"{path} {what} at row {row}, column {column} (line {number} of the file): {remedy}."
                )
        if len(cells) != width:
            raise InvalidInputError(
                f"{path} has {len(cells)} values in row {row} (line {number} of the file), and {width} before: {remedy}."
            )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
