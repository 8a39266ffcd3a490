"""Missing entries of x, which are NaN: whether x has any, and x without them.

Whether any entry is missing decides in Python which densities a model uses. A recorded step may not read that from a batch, and
other batches may have other entries missing. So `fit` and `evaluate` look at all points once, and `assume_missing` keeps the answer.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

_assumed: ContextVar[bool | None] = ContextVar("missing", default=None)


def has_missing(x: Tensor) -> bool:
    """Return whether entries of x are missing, NaN.

    Inside `fit` and `evaluate` it is the answer for all of the points, whatever batch x is.
    """
    assumed = _assumed.get()
    return any_missing(x) if assumed is None else assumed


def any_missing(x: Tensor) -> bool:
    """Return whether an entry of this very tensor is missing."""
    with _disable_current_modes():  # the answer is no step of a recording
        return x.is_floating_point() and bool(x.isnan().any())


@contextlib.contextmanager
def assume_missing(value: bool | None) -> Iterator[None]:
    """Inside, `has_missing` returns this value and reads no tensor; None: it looks at each tensor again."""
    token = _assumed.set(value)
    try:
        yield
    finally:
        _assumed.reset(token)


def fill_missing(x: Tensor, value: Tensor | float = 0.0) -> Tensor:
    """Return x with `value` in place of each missing entry, which it broadcasts to."""
    return torch.where(x.isnan(), value, x)
