"""The figure of points sorted by log p(x): which ones the model finds least probable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..evaluation.result import Evidence
from .style import COLOURS, RELIABLE, mark_fill, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

LEAST, LEAST_SHARE = 20, 5  # points that are shown one by one, at most, and of how many one is
MARKED_MAX = 200  # points up to which each has a mark of its own in the whole curve


def ranking(evidence: Evidence, rows: Tensor | None = None, labels: Sequence[Any] | None = None) -> Figure:
    """Draw log p̂(x) of all points, sorted, and of the least probable ones with their rows. Bars are ± 2 standard errors.

    Args:
        evidence: What `evaluate` returned.
        rows: The row of each point in its source, such as `data.test_rows`.
        labels: A label for each point, written beside its row.

    Returns:
        The figure. A hollow mark is a lower bound of log p(x), or has no estimate.
    """
    from matplotlib.ticker import MaxNLocator

    table = evidence.ranking(rows, labels)
    least = table.head(min(LEAST, max(5, len(table) // LEAST_SHARE)))
    figure = new_figure((9.0, max(3.4, 0.9 + 0.2 * len(least))))
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    _all_points(left, table, len(least))
    names = [f"row {row}" if labels is None else f"row {row} ({label})" for row, label in _names(least)]
    _marks(right, least, list(range(len(least))), horizontal=True)
    right.set_yticks(range(len(least)), names, fontsize=8)
    right.invert_yaxis()
    right.xaxis.set_major_locator(MaxNLocator(5))
    right.set(
        xlabel="log p̂(x) (nats), ± 2 standard errors",
        title=f"the {len(least)} least probable" if len(least) > 1 else "the point",
    )
    if (least["reliability"] != RELIABLE).any():
        for reliable, label in ((True, "reliable"), (False, "a lower bound, or no estimate")):
            right.plot([], [], "o", color="grey", markersize=4, label=label, **mark_fill(reliable))
        figure.legend(*right.get_legend_handles_labels(), frameon=False, loc="outside upper right", ncols=2)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
    return figure


def _names(table: DataFrame) -> list[tuple[Any, Any]]:
    labels = table["label"] if "label" in table else table["row"]
    return list(zip(table["row"], labels, strict=True))


def _all_points(axes: Axes, table: DataFrame, least: int) -> None:
    if len(table) <= MARKED_MAX:
        _marks(axes, table, table["rank"].tolist(), horizontal=False)
    else:
        values, errors = table["log_likelihood"], 2 * table["log_likelihood_se"].fillna(0)
        axes.fill_between(table["rank"], values - errors, values + errors, color=COLOURS[0], alpha=0.3, linewidth=0)
        axes.plot(table["rank"], values, color=COLOURS[0], linewidth=1.2)
    if least < len(table):
        axes.axvspan(0.5, least + 0.5, color="0.92", zorder=0)
    axes.set(xlabel="rank, the least probable first", ylabel="log p̂(x) (nats)", title=f"all {len(table)} points")


def _marks(axes: Axes, table: DataFrame, places: list[int], *, horizontal: bool) -> None:
    """A mark for each point with its error; hollow where it is not reliable."""
    for reliable in (True, False):
        chosen = (table["reliability"] == RELIABLE).to_numpy() == reliable
        values, errors = table["log_likelihood"][chosen], 2 * table["log_likelihood_se"][chosen].fillna(0)
        at = [place for place, there in zip(places, chosen.tolist(), strict=True) if there]
        style: dict[str, Any] = {"fmt": "o", "color": COLOURS[0], "markersize": 4, "elinewidth": 1}
        style |= mark_fill(reliable)
        if horizontal:
            axes.errorbar(values, at, xerr=errors, **style)
        else:
            axes.errorbar(at, values, yerr=errors, **style)
