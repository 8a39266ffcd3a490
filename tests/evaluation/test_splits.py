"""Every point is held out once, and never trained on by the pair that it scores."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold, ShuffleSplit

from pyrovae import InvalidInputError
from pyrovae.evaluation.splits import fold_splits, random_split


def test_folds_hold_out_every_point_once(seed: int) -> None:
    splits = fold_splits(23, 5, seed)
    assert sorted(len(held) for _, held in splits) == [4, 4, 5, 5, 5]
    assert sorted(torch.cat([held for _, held in splits]).tolist()) == list(range(23))
    for trained, held in splits:
        assert sorted([*trained.tolist(), *held.tolist()]) == list(range(23))
    assert not torch.equal(splits[0][1], fold_splits(23, 5, seed + 1)[0][1])


def test_scikit_learns_folds_are_taken_as_they_are() -> None:
    splits = fold_splits(23, KFold(5), 0)
    for (trained, held), (rows, others) in zip(splits, KFold(5).split(np.zeros((23, 1))), strict=True):
        assert trained.tolist() == rows.tolist()
        assert held.tolist() == others.tolist()


def test_a_part_is_held_out_once(seed: int) -> None:
    [(trained, held)] = random_split(50, 0.2, seed)
    assert len(held) == 10
    assert sorted([*trained.tolist(), *held.tolist()]) == list(range(50))


class Leaks:
    def split(self, x):
        rows = np.arange(len(x))
        return [(rows, rows[:5]), (rows, rows[5:])]


def test_splits_that_are_none() -> None:
    with pytest.raises(InvalidInputError, match="folds is 1: give a whole number, at least 2"):
        fold_splits(10, 1, 0)
    with pytest.raises(InvalidInputError, match="11 folds of 10 points"):
        fold_splits(10, 11, 0)
    with pytest.raises(InvalidInputError, match="do not hold out every point exactly once"):
        fold_splits(10, ShuffleSplit(3), 0)
    with pytest.raises(InvalidInputError, match="trains on points that it holds out"):
        fold_splits(10, Leaks(), 0)
    with pytest.raises(InvalidInputError, match="give a share between 0 and 1"):
        random_split(10, 1.0, 0)
    with pytest.raises(InvalidInputError, match=r"A share of 0.1 of 10 points cannot be held out"):
        random_split(10, 0.1, 0)
