"""The base measure of a density, and the log-Jacobian that brings it back to the pixels' own scale."""

from dataclasses import fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from ..data.transforms import Standardise, Transform
from ..errors import InvalidInputError
from ..pair.structure import Structure

CHUNK_POINTS = 1024  # whose log-Jacobian is computed at once
LOG_DENSITIES = ("elbo", "exact", "log_likelihood", "log_w", "lower", "pooled_log_likelihood", "upper")

Result = TypeVar("Result")


def log_jacobian_of(x: Tensor, transform: Transform | None, structure: Structure) -> Tensor | None:
    """Return log|dx/dpixel| of each point, (N,), on the CPU; None where the data have no pixel scale."""
    whole = structure.observed == x[0].numel()  # of a part the transform does not say how much it is stretched
    if transform is not None and whole and transform.log_jacobian(x[:1]) is not None:
        return torch.cat([transform.log_jacobian(points).cpu() for points in x.split(CHUNK_POINTS)])  # type: ignore[union-attr]
    if structure.base_measure == "counting":
        return torch.zeros(len(x), dtype=x.dtype)  # a probability of pixels is on the pixels' own scale
    return None


def log_unit_jacobian_of(transform: Transform | None, x: Tensor, observed: int) -> Tensor:
    """Return what brings log p(x) to the units before a standardisation, (N,), nats, on the CPU.

    It is 0 where x has these units, or where only a part of x is scored. `observed` is how many numbers of a point are
    scored.
    """
    if transform is None or observed != x[0].numel():
        return torch.zeros(len(x))
    return torch.cat([transform.log_unit_jacobian(points).cpu() for points in x.split(CHUNK_POINTS)])


def in_source_units(result: Result, log_unit_jacobian: Tensor) -> Result:
    """Return the result of an estimator with all its log-densities in the units before a standardisation."""
    if not bool(log_unit_jacobian.any()):
        return result
    names = {field.name for field in fields(result)}.intersection(LOG_DENSITIES)  # type: ignore[arg-type]
    values = {name: value for name in names if (value := getattr(result, name)) is not None}
    return replace(result, **{name: value + log_unit_jacobian for name, value in values.items()})  # type: ignore[type-var]


def measure_name(structure: Structure, transform: Transform | None) -> str:
    """Return the base measure of a pair's log p(x), in words."""
    if isinstance(transform, Standardise):
        return f"{transform.before.base_measure(structure.observed)}, in the units before standardising"
    if transform is not None and transform.discrete == (structure.base_measure == "counting"):
        return transform.base_measure(structure.observed)
    return f"{structure.base_measure} measure"


def check_base_measure(structure: Structure, transform: Transform) -> None:
    """Raise `InvalidInputError` for a density on R^D of points in {0, 1}^D, where it could be raised without bound.

    A probability of real x needs no check here: such x are outside its support.
    """
    if transform.discrete and structure.base_measure != "counting":
        raise InvalidInputError(
            f"The data are binary, {transform.space}, and the model is a density on R^D: choose a model of binary data "
            "(a likelihood such as Bernoulli), or another transform."
        )
