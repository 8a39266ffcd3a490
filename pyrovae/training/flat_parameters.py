"""All parameters of a pair in one vector: one kernel each for the optimiser, clipping, averaging and the sum over processes."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..errors import InvalidInputError


def joined(parts: Sequence[Tensor]) -> Tensor:
    """One vector of all their numbers."""
    return torch.cat([part.reshape(-1) for part in parts])


class FlatParameters:
    """Leaves, and the vector that they are views of while `flatten_parameters` lasts."""

    def __init__(self, leaves: Sequence[Tensor]):
        self.leaves = list(leaves)
        sizes = [leaf.numel() for leaf in leaves]
        ends = torch.tensor(sizes).cumsum(0).tolist()
        self.places = [(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        self.vector = torch.nn.Parameter(joined([leaf.detach() for leaf in leaves]))

    def views(self, vector: Tensor) -> list[Tensor]:
        """A vector's parts, in the leaves' shapes, sharing its memory."""
        return [vector[start:end].view(leaf.shape) for (start, end), leaf in zip(self.places, self.leaves, strict=True)]

    def set(self, vector: Tensor) -> None:
        with torch.no_grad():
            self.vector.copy_(vector)


@runtime_checkable
class HasParameterUnits(Protocol):
    """A module whose parameters have the units of the data.

    `parameter_units()` gives, for some parameters, what a step of size 1 is to move them by, in a shape that broadcasts to the
    parameter's. Gradients are then taken, and steps made, in these units. So training does not depend on those of x.
    """

    def parameter_units(self) -> list[tuple[Tensor, Tensor]]: ...


def parameter_units(modules: Iterable[nn.Module], flat: FlatParameters) -> Tensor | None:
    """The units of all parameters as one vector, 1 where a module says nothing; None where no module does."""
    told = [
        pair
        for module in modules
        for part in module.modules()
        if isinstance(part, HasParameterUnits)
        for pair in part.parameter_units()
    ]
    if not told:
        return None
    vector = torch.ones_like(flat.vector.data)
    places = {id(leaf): view for leaf, view in zip(flat.leaves, flat.views(vector), strict=True)}
    for parameter, unit in told:
        if id(parameter) in places:
            places[id(parameter)].copy_(unit)
    return vector


@contextlib.contextmanager
def flatten_parameters(leaves: Sequence[Tensor]) -> Iterator[FlatParameters]:
    """The leaves as views of one vector inside; each with memory of its own again afterwards."""
    kinds = {(leaf.dtype, leaf.device) for leaf in leaves}
    if len(kinds) > 1:
        types = " and ".join(sorted(f"{str(dtype).removeprefix('torch.')} on {device}" for dtype, device in kinds))
        raise InvalidInputError(
            f"The parameters are {types}: bring model and guide to one type and device, model.to(x)."
        )
    flat = FlatParameters(leaves)
    for leaf, view in zip(flat.leaves, flat.views(flat.vector.data), strict=True):
        leaf.data = view
    try:
        yield flat
    finally:
        for leaf in flat.leaves:
            leaf.data = leaf.data.clone()
