"""What `impute` returns: means, intervals and draws of missing entries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, repr=False)
class Imputation:
    """Points whose missing entries are filled: tensors on the CPU. Where x is observed, all have its own value.

    Attributes:
        missing: Which entries are missing, (N, D).
        mean: E[x|observed], (N, D).
        lower, upper: The ends of the interval that has `level` of the probability, half of the rest on each side, (N, D).
        draws: Draws from p(x|observed), all entries of a point together, (num_draws, N, D).
        level: The probability of an interval.
        method: "exact", or "importance_sampling": then means and intervals have the error of so many draws.
        ess: The effective sample size of each point, (N,). Infinite where the method is exact.
        seconds: How long it took.
        metadata: How it was computed.
    """

    missing: Tensor
    mean: Tensor
    lower: Tensor
    upper: Tensor
    draws: Tensor
    level: float
    method: str
    ess: Tensor
    seconds: float
    metadata: Mapping[str, Any]

    def __repr__(self) -> str:
        cells = int(self.missing.sum())
        return f"Imputation({cells} of {self.missing.numel()} entries, {self.method}, {len(self.draws)} draws)"

    def __len__(self) -> int:
        """How many points there are."""
        return len(self.mean)

    def mapped(self, function: Callable[[Tensor], Tensor]) -> "Imputation":
        """The same in other units: `function` maps points (N, D) to these, each column by a function that rises."""
        mean, lower, upper = map(function, (self.mean, self.lower, self.upper))
        return replace(
            self, mean=mean, lower=lower, upper=upper, draws=torch.stack([function(draw) for draw in self.draws])
        )
