"""Enumerated latents, summed out of log p(x, z, k) one after another."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor

from ..errors import InvalidInputError
from .sites import PLATE, SAMPLES, density_sites


class _Factor(NamedTuple):
    """A log-density with a name, one letter, for each of its dimensions: enumerated variables, plates, draws and points."""

    value: Tensor
    dims: str


def sum_out(run: poutine.Trace, num_samples: int, points: int, log_prob: Callable[[dict[str, Any]], Tensor]) -> Tensor:
    """log Σ_k p(x, z, k) over every enumerated variable k, (samples, N), by eliminating one after another.

    `log_prob` is a site's log-density; without one, the density whose support is checked.

    A variable inside a plate is one variable for each of its places: it is eliminated first, and the plate's places are
    multiplied after that. Logarithms are added before they are exponentiated, so that no product of far-apart factors
    underflows. Raises `InvalidInputError` where variables of crossing plates meet in one factor, whose sum is exponential.
    """
    run.symbolize_dims()  # Pyro's letters: dimensions are used again (pyro.markov), letters are not
    keep, homes, factors = "", {}, []
    plates: set[str] = set()
    for site in density_sites(run):
        letters = site["infer"]["_dim_to_symbol"]
        here = {frame.name: letters[frame.dim] for frame in site["cond_indep_stack"] if frame.vectorized}
        keep = here[SAMPLES] + here[PLATE]
        inner = set(here.values()) - set(keep)
        plates |= inner
        is_variable = site["infer"].get("_enumerate_dim") is not None
        if is_variable:
            homes[letters[site["infer"]["_enumerate_dim"]]] = inner
        value = log_prob({**site, "mask": None} if is_variable else site)  # a masked variable sums to 1
        dims = [dim for dim in range(-value.dim(), 0) if value.shape[dim] > 1]
        factors.append(_Factor(value.squeeze(), "".join(letters[dim] for dim in dims)))
    for variable in sorted(homes, key=lambda letter: -len(homes[letter])):
        factors = [_multiply_places(factor, plates, homes) for factor in factors]
        touching = [factor for factor in factors if variable in factor.dims]
        if not touching:
            continue  # it has one value
        if any((set(factor.dims) & plates) - homes[variable] for factor in touching):
            raise InvalidInputError(
                "Enumerated latents of plates that cross meet in one density, and their sum is exponential: name one of them "
                "in the guide, so that it is drawn."
            )
        joint = _multiply(touching)
        summed = _Factor(joint.value.logsumexp(joint.dims.index(variable)), joint.dims.replace(variable, ""))
        factors = [factor for factor in factors if variable not in factor.dims] + [summed]
    factors = [_multiply_places(factor, plates, homes) for factor in factors]
    return _multiply([_Factor(torch.zeros(num_samples, points).to(factors[0].value), keep), *factors]).value


def _multiply_places(factor: _Factor, plates: set[str], homes: dict[str, set[str]]) -> _Factor:
    """The factor's product over the plates in which none of its variables lives."""
    needed = set[str]().union(*(homes.get(letter, set()) for letter in factor.dims))
    done = [axis for axis, letter in enumerate(factor.dims) if letter in plates - needed]
    if not done:
        return factor
    return _Factor(factor.value.sum(dim=done), "".join(d for axis, d in enumerate(factor.dims) if axis not in done))


def _multiply(factors: list[_Factor]) -> _Factor:
    """The product of densities: their logarithms added, over all dimensions that any of them has."""
    dims = "".join(dict.fromkeys("".join(factor.dims for factor in factors)))
    aligned = []
    for value, own in factors:
        value = value.permute([own.index(letter) for letter in dims if letter in own])
        aligned.append(value[tuple(slice(None) if letter in own else None for letter in dims)])
    return _Factor(add_all(aligned), dims)


def add_all(terms: list[Tensor]) -> Tensor:
    """Return the sum of the terms, which broadcast."""
    return functools.reduce(torch.add, terms)
