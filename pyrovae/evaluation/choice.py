"""Choice: what `choose` returns."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ..statistics.estimate import Estimate, mean_difference, mean_over_points
from ..statistics.paired_tests import best_set
from ..utils.export import json_number
from ..utils.notebook import ShownAsHTML


@dataclass(frozen=True, repr=False)
class Candidate:
    """One value of the option: tensors (N,) on the CPU, in nats, for the points held out."""

    value: Any
    log_likelihood: Tensor
    log_likelihood_se: Tensor
    shortfall: Tensor  # by how much log p̂(x) may be too low: 0 where it is reliable
    method: str
    train_log_likelihood: Estimate  # of points that it was trained on
    num_parameters: int  # that training moves, of model and guide
    num_free_parameters: int | None  # the degrees of freedom of an exact p(x)
    bic: float | None
    seconds: float

    @property
    def mean_log_likelihood(self) -> Estimate:
        return mean_over_points(self.log_likelihood, self.log_likelihood_se)

    def __repr__(self) -> str:
        value, mc_se, data_se = self.mean_log_likelihood
        return f"Candidate({label_of(self.value)}: log p̂(x) {value:.3f} ± {mc_se:.3f} ± {data_se:.3f})"


@dataclass(frozen=True)
class Choice(ShownAsHTML):
    """Held-out log p(x) of one pair under several values of an option, on the same points.

    `candidates` has a `Candidate` by the name of each value, in the order in which they were given. `num_folds` is 0 where the
    points were split once. `minka` is Minka's choice of the number of latents, of PPCA only. `failed` are the values
    that could not be trained or scored, with a sentence each.
    """

    option: str
    candidates: Mapping[str, Candidate]
    num_train: int  # points that a candidate is trained on; with folds, in the largest of them
    num_folds: int = 0
    level: float = 0.95
    minka: int | None = None
    failed: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """The value with the highest mean of held-out log p̂(x)."""
        return max(self.candidates, key=lambda name: self.candidates[name].mean_log_likelihood.value)

    @property
    def best_set(self) -> list[str]:
        """The best, and all that cannot be told from it: see `statistics.paired_tests.best_set`."""
        every = self.candidates.values()
        values = torch.stack([each.log_likelihood.double() for each in every])
        shortfall = torch.stack([each.shortfall.double() for each in every])
        return [
            name
            for name, member in zip(self.candidates, best_set(values, shortfall, level=self.level), strict=True)
            if member
        ]

    @property
    def lowest_bic(self) -> str | None:
        """The value that the BIC chooses. None unless log p(x) is exact."""
        known = {name: each.bic for name, each in self.candidates.items() if each.bic is not None}
        return min(known, key=lambda name: known[name]) if known else None

    @property
    def lower_bounds(self) -> dict[str, int]:
        """The number of points at which log p̂(x) is only a lower bound, of each value that has some."""
        points = {name: int((each.shortfall != 0).sum()) for name, each in self.candidates.items()}
        return {name: count for name, count in points.items() if count}

    def difference(self, name: str, other: str) -> Estimate:
        """Mean over points of log p̂_name(x_n) − log p̂_other(x_n), nats, with paired errors."""
        a, b = self.candidates[name], self.candidates[other]
        return mean_difference(a.log_likelihood, a.log_likelihood_se, b.log_likelihood, b.log_likelihood_se)

    @property
    def message(self) -> str:
        """What was chosen, and how sure that is."""
        tied = [name for name in self.best_set if name != self.best]
        sentences = [f"{self.option}={self.best} has the highest held-out log p(x)."]
        if len(self.candidates) == 1:
            sentences = [f"{self.option}={self.best} is the only value that was scored."]
        elif not tied:
            sentences.append(f"Every other value is worse, at a confidence of {self.level:.0%}.")
        elif len(tied) == len(self.candidates) - 1:
            sentences.append(f"No other value can be told from it, at a confidence of {self.level:.0%}: it is a tie.")
        else:
            sentences.append(f"At a confidence of {self.level:.0%} these cannot be told from it: {', '.join(tied)}.")
        if tied and (smallest := self._smallest()) is not None:
            sentences.append(f"The smallest of the best set is {self.option}={smallest}.")
        if loose := self.lower_bounds:
            listed = ", ".join(f"{name} ({points} points)" for name, points in loose.items())
            sentences.append(f"log p̂(x) is only a lower bound at some points: {listed}.")
        if self.lowest_bic is not None and len(self.candidates) > 1:
            sentences.append(f"The BIC chooses {self.option}={self.lowest_bic}.")
        if self.minka is not None:
            sentences.append(f"Minka's approximation of the evidence chooses {self.option}={self.minka}.")
        values = self._numeric_values()
        if len(values) > 1 and values[self.best] in (min(values.values()), max(values.values())):
            sentences.append("The best value is at an end of the range: try more values there.")
        return " ".join(sentences)

    def _numeric_values(self) -> dict[str, Any]:
        """The values by their names; none where some are no numbers."""
        values = {name: each.value for name, each in self.candidates.items()}
        is_numeric = all(isinstance(value, Real) and not isinstance(value, bool) for value in values.values())
        return values if is_numeric else {}

    def _smallest(self) -> str | None:
        """Of the best set, the lowest value; None where values are no numbers."""
        values = self._numeric_values()
        return min(self.best_set, key=lambda name: values[name]) if values else None

    def rows(self) -> list[dict[str, Any]]:
        """A flat row for each candidate, ready for JSON or CSV: numbers in nats, None where there is none."""
        members = self.best_set
        rows = []
        for name, each in self.candidates.items():
            held_out, difference = each.mean_log_likelihood, self.difference(name, self.best)
            row = {
                "value": name,
                "log_likelihood": held_out.value,
                "log_likelihood_mc_se": held_out.mc_se,
                "log_likelihood_data_se": held_out.data_se,
                "difference": difference.value,
                "difference_mc_se": difference.mc_se,
                "difference_data_se": difference.data_se,
                "in_best_set": name in members,
                "num_lower_bounds": self.lower_bounds.get(name, 0),
                "method": each.method,
                "train_log_likelihood": each.train_log_likelihood.value,
                "train_log_likelihood_mc_se": each.train_log_likelihood.mc_se,
                "num_parameters": each.num_parameters,
                "num_free_parameters": each.num_free_parameters,
                "bic": each.bic,
                "seconds": each.seconds,
            }
            rows.append({key: json_number(value) for key, value in row.items()})
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: the choice, the candidates, and log p̂(x) of each point."""
        return {
            "option": self.option,
            "best": self.best,
            "best_set": self.best_set,
            "level": self.level,
            "lowest_bic": self.lowest_bic,
            "minka": self.minka,
            "message": self.message,
            "num_train": self.num_train,
            "num_folds": self.num_folds,
            "candidates": self.rows(),
            "per_point": {
                name: {
                    "log_likelihood": _numbers(each.log_likelihood),
                    "log_likelihood_se": _numbers(each.log_likelihood_se),
                }
                for name, each in self.candidates.items()
            },
            "failed": dict(self.failed),
            "metadata": dict(self.metadata),
        }


def label_of(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return value.__name__ if isinstance(value, type) else str(value)


def _numbers(values: Tensor) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
