"""Schedules of inverse temperatures: how densely the distributions of an annealing path lie, and where."""

import torch
from torch import Tensor

from ..errors import InvalidInputError


class Linear:
    """β_t = t / T."""

    def __call__(self, steps: int) -> Tensor:
        """β_0 = 0, …, β_T = 1: (T + 1,)."""
        return torch.linspace(0, 1, steps + 1, dtype=torch.float64)

    def __str__(self) -> str:
        return "linear"


class Sigmoid:
    """β_t ∝ σ(δ(2t/T − 1)), moved and scaled to begin at 0 and end at 1: small steps at both ends."""

    def __init__(self, rad: float = 4.0):
        if not rad > 0:
            raise InvalidInputError(
                f"rad={rad}: a sigmoid schedule needs a half-width above 0; 4 is usual, Linear() is its limit at 0."
            )
        self.rad = rad

    def __call__(self, steps: int) -> Tensor:
        beta = torch.sigmoid(torch.linspace(-self.rad, self.rad, steps + 1, dtype=torch.float64))
        return (beta - beta[0]) / (beta[-1] - beta[0])

    def __str__(self) -> str:
        return f"sigmoid({self.rad:g})"


Schedule = Linear | Sigmoid
