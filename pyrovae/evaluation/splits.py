"""Rows to train on and rows to hold out: once at random, or in folds."""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import InvalidInputError, check_int
from ..utils.random import fork_rng


class Splitter(Protocol):
    """What makes folds, such as scikit-learn's `KFold(5)`."""

    def split(self, x: Any) -> Iterable[tuple[Any, Any]]:
        """The rows to train on and the rows to hold out, for each fold."""


def random_split(num_points: int, fraction: float, seed: int) -> list[tuple[Tensor, Tensor]]:
    """One pair of sorted row numbers: those to train on, and a random share that is held out."""
    if not 0 < fraction < 1:
        raise InvalidInputError(f"validation_fraction is {fraction!r:.40}: give a share between 0 and 1, such as 0.2.")
    held = round(fraction * num_points)
    if not 2 <= held < num_points:
        raise InvalidInputError(
            f"A share of {fraction:g} of {num_points} points cannot be held out: give more points, or folds."
        )
    order = _shuffled(num_points, seed)
    return [(order[held:].sort().values, order[:held].sort().values)]


def fold_splits(num_points: int, folds: int | Splitter, seed: int) -> list[tuple[Tensor, Tensor]]:
    """The rows to train on and the rows held out, for each fold. An integer is a number of random folds of equal size.

    Raises:
        InvalidInputError: A fold trains on what it holds out, or the folds do not hold out every point once.
    """
    if hasattr(folds, "split"):
        places = torch.zeros(num_points, 1).numpy()
        splits = [tuple(torch.as_tensor(rows) for rows in pair) for pair in folds.split(places)]
    else:
        check_int("folds", folds, 2)
        if folds > num_points:
            raise InvalidInputError(f"{folds} folds of {num_points} points: give at most one fold a point.")
        parts = _shuffled(num_points, seed).tensor_split(folds)
        splits = [
            (torch.cat([*parts[:place], *parts[place + 1 :]]).sort().values, held.sort().values)
            for place, held in enumerate(parts)
        ]
    held = torch.cat([held for _, held in splits])
    if not torch.equal(held.sort().values, torch.arange(num_points)):
        raise InvalidInputError("The folds do not hold out every point exactly once: use a splitter such as KFold.")
    if any(bool(torch.isin(held, trained).any()) for trained, held in splits):
        raise InvalidInputError("A fold trains on points that it holds out: use a splitter such as KFold.")
    return [(trained, held) for trained, held in splits]


def _shuffled(num_points: int, seed: int) -> Tensor:
    with fork_rng(torch.device("cpu"), seed):
        return torch.randperm(num_points)
