"""Transforms of tables, whose columns have units of their own."""

from typing import Any

import torch
from torch import Tensor

from ..nn import column_moments
from .transform import Identity, Transform


class DequantiseTable(Transform):
    """x = n + u, u ~ U[0, 1), of whole numbers n in columns: log|dx/dn| = 0, and x keeps the units of the source.

    The mean of log p(x) over u is a lower bound on the log-probability of the whole numbers.
    """

    levels = 1  # to a unit of x

    def __call__(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return pixels + torch.rand(pixels.shape, generator=generator, dtype=pixels.dtype, device=pixels.device)

    def check(self, values: Tensor, first: int = 0) -> None:
        self._refuse(values, values != values.round(), "whole numbers", first)

    def to_source(self, x: Tensor) -> Tensor:
        return x.floor()

    def log_jacobian(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x))

    def grey(self, x: Tensor) -> Tensor:
        return Identity().grey(x)

    def __str__(self) -> str:
        return "n + u, whole numbers in their own units"


class Standardise(Transform):
    """y = (x − m)/s of each column, with mean and standard deviation of the training points' observed values.

    x is what another transform made. Log-densities are given in the units of x: log p(x) = log p(y) − Σ_d log s_d.
    """

    def __init__(self, mean: Tensor, sd: Tensor, before: Transform | None = None):
        """`mean` and `sd` are (D,), in double precision."""
        self.mean, self.sd, self.before = mean, sd, before or Identity()

    @classmethod
    def fitted(cls, x: Tensor, before: Transform) -> "Standardise":
        """The transform that gives the columns of x (N, D) mean 0 and variance 1."""
        return cls(*column_moments(x), before)

    def __call__(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.scaled(self.before(pixels, generator))

    def scaled(self, x: Tensor) -> Tensor:
        """y of x."""
        return ((x.double() - self.mean.to(x.device)) / self.sd.to(x.device)).to(x.dtype)

    def undo(self, y: Tensor) -> Tensor:
        """x of y."""
        return (y.double() * self.sd.to(y.device) + self.mean.to(y.device)).to(y.dtype)

    def to_source(self, x: Tensor) -> Tensor:
        return self.before.to_source(self.undo(x))

    def log_unit_jacobian(self, x: Tensor) -> Tensor:
        return -((~x.isnan()).double() @ self.sd.to(x.device).log())

    def settings(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "sd": self.sd.tolist(), "before": self.before.state()}

    def check(self, values: Tensor, first: int = 0) -> None:
        self.before.check(values, first)

    def log_jacobian(self, x: Tensor) -> Tensor | None:
        return self.before.log_jacobian(self.undo(x))

    def grey(self, x: Tensor) -> Tensor:
        return self.before.grey(self.undo(x))

    def base_measure(self, dim: int) -> str:
        return f"Lebesgue on R^{dim} of standardised columns"

    def __str__(self) -> str:
        return "standardised columns" + ("" if isinstance(self.before, Identity) else f" of {self.before}")
