"""Tables of numbers in text files: separators, quotes, decimal commas, headers, and the columns that programs add."""

import csv
import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InvalidInputError

SEPARATORS = (";", "\t", "|", ",", " ")  # the first that cuts all of the first lines alike
SNIFFED_LINES = 20
UNNAMED = ("", "Unnamed: 0")  # what pandas calls the column of its index
MISSING = {"", "?", "na", "n/a", "nan", "<na>", "null", "none"}  # of a cell without a value, in lower case


@dataclass(frozen=True)
class Table:
    """A text file as columns."""

    values: np.ndarray  # (N, D), float64; NaN in missing cells and in columns of text
    names: tuple[str, ...]  # of the columns; () for a file without a header
    texts: dict[int, np.ndarray]  # the columns of text, by number
    whole: bool  # all numbers are written without a decimal point
    first_line: int  # of the data in the file, counted from 1


@dataclass(frozen=True)
class Lines:
    """A text file as lines of cells."""

    names: tuple[str, ...]  # of all columns, an index among them; () for a file without a header
    separator: str
    body: list[tuple[int, str]]  # the points, each with its line's number, counted from 1


def read_text_table(path: Path) -> Table:
    """Read a table with a point to a row.

    The separator is a comma, a semicolon, a tab, a bar or spaces. Cells may stand in quotes, decimals behind a comma where it is not
    the separator. A first line that is no point is a header: it has no number, or it counts the columns (0, 1, 2). A
    first column that has no name and counts the rows is an index, and is left out. A cell is missing where it is empty,
    ?, NA, NaN or the like.

    Raises `InvalidInputError` that names the cell that is no number.
    """
    lines = read_lines(path)
    names, body = lines.names, lines.body
    values, texts, whole = _parse(path, body, lines.separator, names)
    if names and names[0] in UNNAMED and 0 not in texts and _is_index(values[:, 0]):
        values, names = values[:, 1:], names[1:]
        texts = {column - 1: text for column, text in texts.items()}
    names = tuple(name or f"column {place}" for place, name in enumerate(names))
    return Table(values, names, texts, whole, body[0][0])


def read_lines(path: Path) -> Lines:
    """Find the separator, the header and the points of a text file. Raises `ValueError` for a file without points."""
    numbered = [(number, line) for number, line in enumerate(_text(path).splitlines(), 1) if line.strip()]
    comments = [line.lstrip("# ") for _, line in numbered if line.startswith("#")]
    numbered = [(number, line) for number, line in numbered if not line.startswith("#")]
    lines = [line for _, line in numbered]
    separator = _separator(lines[:SNIFFED_LINES])
    first = cells_of(lines[0], separator) if lines else []
    header = bool(lines) and _is_header(first, cells_of(lines[1], separator) if len(lines) > 1 else [])
    names = tuple(cell.strip() for cell in first) if header else ()
    if not header and comments:  # as numpy.savetxt writes names
        named = cells_of(comments[-1], separator)
        names = tuple(name.strip() for name in named) if len(named) == len(first) > 1 else ()
    body = numbered[header:]
    if not body:
        raise ValueError("it has no points")
    return Lines(names, separator, body)


def _text(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not text in UTF-8 or UTF-16: save it as UTF-8.") from error


def _separator(lines: list[str]) -> str:
    for separator in SEPARATORS:
        counts = {len(cells_of(line, separator)) for line in lines}
        if len(counts) == 1 and max(counts) > 1:
            return separator
    return "," if any("," in line for line in lines) else " " if not any(";" in line for line in lines) else ";"


def cells_of(line: str, separator: str) -> list[str]:
    """The cells of a line."""
    if separator == " ":
        return line.split()
    return next(csv.reader([line], delimiter=separator))


def _is_header(first: list[str], second: list[str]) -> bool:
    """Return whether the first line of a table is its header.

    One number in it makes it a point, which is never dropped for a cell that cannot be read. But numbers that only
    count the columns are no point, and neither are names above columns of text.
    """
    counted = first[1:] if first[0].strip() in UNNAMED else first
    if len(first) > 1 and counted == [str(place) for place in range(len(counted))] and first != second:
        return True
    return not any(map(is_number, first)) and not all(map(is_missing, first))


def _is_index(column: np.ndarray) -> bool:
    return bool((column == column.round()).all()) and len(np.unique(column)) == len(column)


def _parse(
    path: Path, lines: list[tuple[int, str]], separator: str, names: tuple[str, ...]
) -> tuple[np.ndarray, dict[int, np.ndarray], bool]:
    """Values, columns of text, and whether no number has a decimal point."""
    joined = "\n".join(line for _, line in lines)
    if '"' not in joined and not (separator != "," and "," in joined):
        try:
            values = np.loadtxt(io.StringIO(joined), delimiter=None if separator == " " else separator, ndmin=2)
            return values, {}, "." not in joined
        except ValueError:
            pass  # which cell it was is said below
    rows = [[cell.strip() for cell in cells_of(line, separator)] for _, line in lines]
    width = len(rows[0])
    for row, cells in enumerate(rows):
        if len(cells) != width:
            raise InvalidInputError(
                f"{path} has {len(cells)} values in row {row} (line {lines[row][0]} of the file), and {width} before: fill it in, "
                "or remove the row."
            )
    columns = [[row[place] for row in rows] for place in range(width)]
    if separator != "," and not any("." in cell for row in rows for cell in row):
        columns = [[cell.replace(",", ".") for cell in column] for column in columns]
    texts = {place: np.array(column) for place, column in enumerate(columns) if not any(map(is_number, column))}
    texts = {place: text for place, text in texts.items() if not all(map(is_missing, text)) and len(rows) > 1}
    values = np.full((len(rows), width), np.nan)
    for place, column in enumerate(columns):
        if place not in texts:
            values[:, place] = [_number(path, cell, row, place, lines[row][0]) for row, cell in enumerate(column)]
    numbers = [cell for place, column in enumerate(columns) if place not in texts for cell in column]
    return values, texts, not any("." in cell for cell in numbers)


def _number(path: Path, cell: str, row: int, column: int, line: int) -> float:
    if is_missing(cell):
        return np.nan
    try:
        return float(cell)
    except ValueError as error:
        raise InvalidInputError(
            f"{path} has '{cell}', which is no number, at row {row}, column {column} (line {line} of the file): fill it in, leave "
            "the cell empty, or remove the row."
        ) from error


def is_missing(cell: str) -> bool:
    """Whether a cell says that it has no value."""
    return cell.strip().lower() in MISSING


def is_number(cell: str) -> bool:
    """Whether a cell reads as a number, with a decimal point or a decimal comma."""
    try:
        float(cell.replace(",", ".", 1))
    except ValueError:
        return False
    return True
