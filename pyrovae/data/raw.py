"""Points as a source has them, before they are split and transformed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidInputError


@dataclass(frozen=True)
class RawData:
    """All points of a source, in its own order and units, with what the source says of rows and columns."""

    values: Tensor  # (N, D)
    train_rows: Tensor  # which of them are for training
    test_rows: Tensor
    split: str  # how they were split, in words
    levels: int | None = None  # of pixels: the values are whole numbers below it
    whole: bool = False  # the values are whole numbers that are no pixels
    shape: tuple[int, ...] | None = None  # of one image: height, width, and 3 for colours
    column_names: tuple[str, ...] = ()
    labels: Tensor | None = None  # (N,)
    label_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what is to be said of columns


def random_split(points: int, generator: torch.Generator) -> tuple[Tensor, Tensor, str]:
    """Rows of four fifths to train on and of one fifth to hold out, at random; and the split in words."""
    held_out = points // 5
    if held_out < 1:
        raise InvalidInputError(f"{points} points are too few to hold some out: give at least 5.")
    order = torch.randperm(points, generator=generator)
    train, test = order[held_out:], order[:held_out]
    return train, test, f"{len(train)} train / {len(test)} test, at random"


def given_split(train: int, test: int, whose: str) -> tuple[Tensor, Tensor, str]:
    """The same of a source that comes split: its training points first, then its test points."""
    return torch.arange(train), torch.arange(train, train + test), f"{train} train / {test} test, {whose}"
