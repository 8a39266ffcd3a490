"""Supports of distributions: fixed ones, and those that tensors take part in, which may differ from point to point or draw to draw."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints


def has_fixed_support(fn: Any) -> bool:
    """Whether no tensor takes part in the support of a distribution."""
    return next(_tensors(_support(fn)), None) is None


def same_support(fn: Any, other: Any) -> bool:
    """Whether two distributions of one kind have one support."""
    pairs = zip(_tensors(_support(fn)), _tensors(_support(other)), strict=True)
    return all(one.shape == two.shape and torch.equal(one, two) for one, two in pairs)


def is_inside(site: dict[str, Any]) -> Tensor:
    """Whether a site's value lies in the support, over its batch dimensions."""
    support = _support(site["fn"])
    return torch.tensor(True) if support is None else support.check(site["value"])


def to_support(fn: Any) -> Any:
    """torch's bijection from R^d to the support of a distribution. A mixture of one family has that of its components.

    Raises:
        NotImplementedError: torch has none.
    """
    support = fn.support
    while isinstance(support, constraints.MixtureSameFamilyConstraint):
        support = support.base_constraint
    return biject_to(support)


def _support(fn: Any) -> Any:
    try:
        return fn.support
    except (NotImplementedError, AttributeError):
        return None  # there is none to check


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a constraint, in a fixed order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, constraints.Constraint):
        yield from _tensors(list(vars(value).values()))
