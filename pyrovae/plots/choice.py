"""The figure of a choice: held-out log p(x) over an option's values, beside training and the BIC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..evaluation.choice import Choice
from ..statistics.reliability import mean_reliability
from .style import COLOURS, RELIABLE, mark_fill, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_TICKS = 12


def choice_plot(choice: Choice) -> Figure:
    """Above, held-out and training log p(x) of each value. Bars are standard errors of the paired difference to the best.

    A circle is filled if log p̂(x) is reliable, and hollow if it is a lower bound. Rings are about the values that cannot be
    told from the best. Below, the BIC less its lowest value, where log p(x) is exact.
    """
    rows = choice.rows()
    has_bic = any(row["bic"] is not None for row in rows)
    figure = new_figure((6.4, 5.6 if has_bic else 4))
    grid = figure.subplots(2 if has_bic else 1, sharex=True, squeeze=False, height_ratios=[2, 1] if has_bic else None)
    axes = grid[0, 0]
    places = range(len(rows))
    axes.plot(
        places,
        [row["train_log_likelihood"] for row in rows],
        "--",
        color=COLOURS[4],
        marker="s",
        ms=4,
        label="training",
    )
    values = [row["log_likelihood"] for row in rows]
    errors = [row["difference_data_se"] or 0.0 for row in rows]
    axes.errorbar(places, values, yerr=errors, color=COLOURS[0], capsize=3)
    sure = [mean_reliability(each.shortfall) == RELIABLE for each in choice.candidates.values()]
    for reliable, label in ((True, "held out"), (False, "held out, a lower bound")):
        shown = [place for place in places if sure[place] == reliable]
        if shown:
            heights = [values[place] for place in shown]
            axes.plot(shown, heights, "o", color=COLOURS[0], zorder=3, label=label, **mark_fill(reliable))
    members = [place for place, row in enumerate(rows) if row["in_best_set"]]
    ring = {"markersize": 13, "markerfacecolor": "none", "markeredgecolor": COLOURS[1]}
    label = "cannot be told from the best"
    axes.plot(members, [values[place] for place in members], "o", label=label, **ring)
    best = list(choice.candidates).index(choice.best)
    axes.axvline(best, color="grey", linewidth=0.8, linestyle=":", label="best")
    axes.set(ylabel="log p̂(x) (nats per point)\nbars: error of the difference to the best")
    axes.legend(frameon=False)
    if has_bic:
        _bic(grid[1, 0], choice, rows)
    lowest = grid[-1, 0]
    step = -(-len(rows) // MAX_TICKS)
    lowest.set_xticks(list(places)[::step], [row["value"] for row in rows][::step])
    lowest.set(xlabel=choice.option)
    for each in grid[:, 0]:
        each.spines[["top", "right"]].set_visible(False)
    return figure


def _bic(axes: Axes, choice: Choice, rows: list[dict[str, object]]) -> None:
    known = {place: float(str(row["bic"])) for place, row in enumerate(rows) if row["bic"] is not None}
    least = min(known.values())
    axes.plot(list(known), [value - least for value in known.values()], color=COLOURS[2], marker="D", ms=4)
    axes.axhline(0, color="grey", linewidth=0.8, linestyle=":")
    axes.set(ylabel="BIC − lowest (nats)")
