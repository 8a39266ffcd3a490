"""The points of an evaluation as a table, and ranked by log p(x): the least probable first."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import InvalidInputError

if TYPE_CHECKING:
    from pandas import DataFrame


def point_table(
    log_likelihood: Tensor,
    se: Tensor,
    method: Sequence[str],
    shortfall: Tensor,
    rows: Tensor | None,
    labels: Sequence[Any] | None,
) -> "DataFrame":
    """A line for each point, in the order of x: `Evidence.table` says what stands in it."""
    import pandas

    places = torch.arange(len(log_likelihood)) if rows is None else torch.as_tensor(rows).cpu()
    for name, given in (("rows", places), ("labels", labels)):
        if given is not None and len(given) != len(log_likelihood):
            raise InvalidInputError(
                f"{name} has {len(given)} entries for {len(log_likelihood)} points: give one for each."
            )
    order = log_likelihood.nan_to_num(nan=-torch.inf).argsort(stable=True)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(1, len(order) + 1)
    columns = {
        "row": places.numpy(),
        **({} if labels is None else {"label": list(labels)}),
        "log_likelihood": log_likelihood.numpy(),
        "log_likelihood_se": se.numpy(),
        "method": list(method),
        "reliability": point_reliability(shortfall),
        "rank": ranks.numpy(),
    }
    return pandas.DataFrame(columns)


def point_reliability(shortfall: Tensor) -> list[str]:
    """Whether log p̂(x) of each point is "reliable", a "lower_bound" or "not_estimated", by how much it may be too low (N,)."""
    return [
        "reliable" if missing == 0 else "not_estimated" if missing != missing else "lower_bound"
        for missing in shortfall.tolist()
    ]
