"""What a transform from a source's numbers to x is: it knows its base measure and how much it stretches space.

Pixels are whole numbers 0 … levels − 1. A density of x is one of pixels only after log|dx/dpixel| is added; a probability of
binary x has no such factor, and neither kind may be compared with the other.
"""

from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInputError


class Transform:
    """pixels (N, D) → x (N, D)."""

    discrete: bool = False  # x has probabilities (counting measure), else densities (Lebesgue)
    fresh: bool = False  # training data are drawn anew at every use
    pixels: bool = False  # x comes from pixels, whose columns have one unit
    space: str = "R^D"
    likelihood: str = "Bernoulli"  # of x that have probabilities, where none is chosen

    def __call__(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """x from pixels; random draws come from `generator`, or from torch's global one."""
        raise NotImplementedError

    def log_jacobian(self, x: Tensor) -> Tensor | None:
        """log|dx/dpixel| of the observed entries of x: (N, D) → (N,), nats. None where there is no pixel scale."""
        raise NotImplementedError

    def grey(self, x: Tensor) -> Tensor:
        """x as grey levels in [0, 1], to be looked at."""
        return x.clamp(0, 1)

    def to_source(self, x: Tensor) -> Tensor:
        """The source's numbers of x, (N, D): whole numbers where the source has these.

        Raises `InvalidInputError` where x does not tell.
        """
        raise InvalidInputError(f"The transform ({self}) cannot be undone: use a run with another transform.")

    def log_unit_jacobian(self, x: Tensor) -> Tensor:
        """What is added to log p(x) so that it is a density in the source's units: (N,), nats; 0 where x has these.

        Only the observed entries of x (N, D) count.
        """
        return x.new_zeros(len(x))

    def settings(self) -> dict[str, Any]:
        """The arguments that the transform was made with or fitted to, in plain types."""
        return {}

    def state(self) -> dict[str, Any]:
        """The transform with all that was fitted, in plain types: `transform_from_state` makes it again."""
        return {"name": type(self).__name__, **self.settings()}

    def check(self, values: Tensor, first: int = 0) -> None:
        """Raise `InvalidInputError` for values (N, D) that the transform is not made for, by row and column.

        The first of these rows has the number `first`.
        """

    def _refuse(self, values: Tensor, bad: Tensor, wanted: str, first: int) -> None:
        bad = bad & ~values.isnan()  # a missing value stays one
        if bool(bad.any()):
            row, column = bad.nonzero()[0].tolist()
            raise InvalidInputError(
                f"Row {first + row}, column {column} has the value {values[row, column].item():g}, and the transform ({self}) takes {wanted}: "
                "give such data, or train on these."
            )

    def base_measure(self, dim: int) -> str:
        """The base measure, in words: what `compare` holds models to."""
        return f"{'counting' if self.discrete else 'Lebesgue'} on {self.space.replace('D', str(dim))}"


class Identity(Transform):
    """x as it is: real numbers with no pixel scale, or {0, 1} already."""

    def __init__(self, discrete: bool = False):
        self.discrete = discrete
        self.space = "{0,1}^D" if discrete else "R^D"

    def __call__(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return pixels

    def to_source(self, x: Tensor) -> Tensor:
        return x

    def settings(self) -> dict[str, Any]:
        return {"discrete": self.discrete}

    def check(self, values: Tensor, first: int = 0) -> None:
        if self.discrete:
            self._refuse(values, (values != 0) & (values != 1), "0 or 1", first)

    def log_jacobian(self, x: Tensor) -> Tensor | None:
        return x.new_zeros(len(x)) if self.discrete else None

    def grey(self, x: Tensor) -> Tensor:
        seen = x[~x.isnan()]
        return (x - seen.min()) / (seen.max() - seen.min()).clamp(min=torch.finfo(x.dtype).tiny)

    def __str__(self) -> str:
        return "as given"
