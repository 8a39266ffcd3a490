"""Pairs that are trained already, such as loaded runs: what `compare` reads of one, and what all must share."""

import itertools
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide
from ..training import FitResult


@runtime_checkable
class TrainedPair(Protocol):
    """A pair with its training, as `load_run` returns it."""

    @property
    def model(self) -> ModelOrGuide:
        """p(x, z)."""

    @property
    def guide(self) -> ModelOrGuide:
        """q(z|x)."""

    @property
    def fit_result(self) -> FitResult:
        """How the training went."""

    @property
    def trained_on(self) -> str:
        """The data in words: their name, transform and split."""

    @property
    def data_fingerprint(self) -> list[int] | None:
        """The shape of the training points, and a checksum where they are the same at every use. None where it is not known."""


Pair = tuple[ModelOrGuide, ModelOrGuide] | TrainedPair


def check_same_training_data(pairs: Mapping[str, TrainedPair]) -> None:
    """Raise `InvalidInputError` unless all were trained on the same points."""
    for (name, pair), (other, other_pair) in itertools.pairwise(pairs.items()):
        if pair.data_fingerprint is None or other_pair.data_fingerprint is None or _same_data(pair, other_pair):
            continue
        if pair.trained_on == other_pair.trained_on:
            raise InvalidInputError(
                f"{name} and {other} were trained on different points: {pair.trained_on} has changed between the two "
                "trainings; train one of them again."
            )
        raise InvalidInputError(
            f"{name} was trained on {pair.trained_on} and {other} on {other_pair.trained_on}: compare runs of the same data, "
            "transform and split."
        )


def _same_data(pair: TrainedPair, other: TrainedPair) -> bool:
    """By checksum; points that are drawn anew at every use have none, and then the words decide too."""
    if pair.data_fingerprint != other.data_fingerprint:
        return False
    has_checksum = len(pair.data_fingerprint or ()) > 2
    return has_checksum or pair.trained_on == other.trained_on
