"""What is to be known of columns before a density is fitted to them: constants, few values, and what single precision can resolve."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InvalidInputError

LARGEST_OFFSET = 100.0  # standard deviations from 0, beyond which single precision has lost two digits
LARGEST_RATIO = 1e3  # of the columns' standard deviations
BLURRED = 1e-3  # a standard deviation of rounding, as a fraction of the column's, that is worth a word
MOST_COMMON = 0.25  # share of the points that have one value
FEW = 20  # different values at most that count as few


def check_observed(x: Tensor, source: str, names: Sequence[str]) -> None:
    """Raise `InvalidInputError` for columns of x (N, D) without any value to train on."""
    empty = x.isnan().all(dim=0).nonzero().flatten().tolist()
    if empty:
        called = str(names[empty[0]]) if names else str(empty[0])
        raise InvalidInputError(
            f"{source} has no value to train on in {named(empty, names)}: take it out with --drop {called}."
        )


def check_not_constant(x: Tensor, source: str, names: Sequence[str]) -> None:
    """Raise `InvalidInputError` for columns of x (N, D) whose values do not vary."""
    missing = x.isnan()
    least, most = x.masked_fill(missing, torch.inf).amin(dim=0), x.masked_fill(missing, -torch.inf).amax(dim=0)
    constant = (least == most).nonzero().flatten().tolist()
    if constant:
        raise InvalidInputError(
            f"{len(constant)} of the {x.shape[1]} columns of {source} are constant ({named(constant, names)}): a density there grows "
            "without bound; drop them, or save pixels as an array of integers so that they are dequantised."
        )


def resolving_dtype(x: Tensor) -> torch.dtype:
    """float32 where it tells the values of every column of x (N, D) apart, and columns do not differ much in scale; else float64."""
    sd, largest = _spread(x)
    offset, ratio = (largest / sd).max(), sd.max() / sd.min()
    return torch.float64 if offset > LARGEST_OFFSET or ratio > LARGEST_RATIO else torch.float32


def rounding_message(
    x: Tensor, names: Sequence[str], remedy: str = "Use --dtype float64, or subtract an offset."
) -> str:
    """A sentence where single precision blurs a column of x (N, D), given in double precision, with a remedy; else ""."""
    sd, largest = _spread(x)
    spacing = largest * torch.finfo(torch.float32).eps
    blurred = ((spacing > BLURRED * sd) & (sd > 0)).nonzero().flatten().tolist()
    if not blurred:
        return ""
    column = blurred[0]
    return (
        f"Single precision rounds {named(blurred, names)}: numbers near {largest[column]:.4g} are {spacing[column]:.2g} apart, and the "
        f"standard deviation is {sd[column]:.2g}. {remedy}"
    )


def few_values(x: Tensor) -> list[int]:
    """The columns of x (N, D) that take few values, or one value often."""
    few = []
    for place in range(x.shape[1]):
        values = x[:, place]
        values = values[~values.isnan()]
        counts = values.unique(return_counts=True)[1]
        if len(counts) <= max(2, min(FEW, len(values) // 20)) or counts.max() > max(1, MOST_COMMON * len(values)):
            few.append(place)
    return few


def few_values_clause(few: Sequence[int], names: Sequence[str]) -> str:
    """What columns of few values mean for a density, in short; "" for none."""
    return f"In {named(few, names)} x takes few values: the floor of variances decides the density." if few else ""


def few_values_message(few: Sequence[int], names: Sequence[str]) -> str:
    """What columns of few values mean for a density, and what to do. There is at least one."""
    return (
        f"C{named(few, names)[1:]} {'take' if len(few) > 1 else 'takes'} few values. A density there has no maximum, and the floor of "
        "variances decides its size. Drop such columns, or model them as probabilities."
    )


def missing_message(x: Tensor, names: Sequence[str]) -> str:
    """A sentence that says how many cells of x (N, D) have no value, and in which columns; "" where all have one."""
    counts = x.isnan().sum(dim=0)
    total = int(counts.sum())
    if not total:
        return ""
    return (
        f"{total} of {x.numel()} cells have no value, in {named(counts.nonzero().flatten().tolist(), names)}. Pairs that take missing "
        "values integrate them out, and assume that they are missing at random."
    )


def _spread(x: Tensor) -> tuple[Tensor, Tensor]:
    """The standard deviation and the largest absolute value of each column of x (N, D), of the values that are there."""
    count = (~x.isnan()).sum(dim=0)
    mean = x.nansum(dim=0) / count
    return ((x - mean).square().nansum(dim=0) / count).sqrt(), x.nan_to_num(0.0).abs().amax(dim=0)


def named(columns: Sequence[int], names: Sequence[str]) -> str:
    """Columns by name, or by number where they have none; the first five."""
    called = [str(names[column]) if names else str(column) for column in columns[:5]]
    return "column " + ", ".join(called) + (", …" if len(columns) > 5 else "")
