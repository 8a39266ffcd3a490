"""Where a model's variances have come down to their floor, so that the floor decides the density."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from .execution import ModelOrGuide

COLUMNS_NAMED = 5


@runtime_checkable
class HasVarianceFloor(Protocol):
    """A model whose variances have a floor.

    `directions_at_floor()` counts the directions in which the variance is at its floor, by column: (K, D), a row for
    each covariance, or None.
    """

    def directions_at_floor(self) -> Tensor | None: ...


def floor_message(model: ModelOrGuide) -> str:
    """A sentence that says in how many directions of which columns a floor binds; "" where none does."""
    directions = model.directions_at_floor() if isinstance(model, HasVarianceFloor) else None
    count = 0 if directions is None else round(float(directions.sum()))
    if directions is None or count == 0:
        return ""
    columns = directions.sum(dim=0)
    order = columns.argsort(descending=True, stable=True)[:COLUMNS_NAMED]
    named = [int(column) for column in order if columns[column] > 0.1 * columns.max()]
    where = f"column{'s' if len(named) > 1 else ''} {', '.join(map(str, sorted(named)))}"
    return (
        f"Variances are at their floor in {count} of {directions.numel()} directions, mostly of {where}: the floor decides the "
        "density there."
    )
