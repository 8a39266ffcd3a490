"""The figure of paired differences: how far each model stands behind the best on the same points."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..evaluation.comparison import Comparison
from .style import RELIABLE, line_style, mark_fill, new_axes, number, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def difference_plot(comparison: Comparison, axes: Axes | None = None) -> Figure:
    """Draw the mean difference of log p̂(x) between each model and the best, on the same points.

    Bars are two standard errors, Monte Carlo and data together. A bar that misses 0 shows a difference. A mark is filled if both
    numbers are reliable, and hollow if one is a lower bound.

    Args:
        comparison: What was compared.
        axes: Where to draw; a new figure if not given.

    Returns:
        The figure.
    """
    names = list(comparison.evidence)
    figure, axes = new_axes(axes, (7.0, 1.3 + 0.5 * len(names)))
    sure = {name: evidence.reliability == RELIABLE for name, evidence in comparison.evidence.items()}
    for place, name in enumerate(names):
        difference = comparison.difference(name, comparison.best)
        errors = [0.0 if math.isnan(error) else error for error in (difference.mc_se, difference.data_se)]
        error = 0.0 if name == comparison.best else 2 * math.hypot(*errors)
        filled = mark_fill(sure[name] and sure[comparison.best])
        colour = line_style(place)["color"]
        axes.errorbar(difference.value, place, xerr=error, fmt="o", color=colour, capsize=3, **filled)
        text = "best" if name == comparison.best else f"{number(difference.value)} ± {error / 2:.2f}"
        axes.annotate(text, (difference.value, place), (0, 8), textcoords="offset points", ha="center", fontsize=9)
    axes.axvline(0, color="grey", linewidth=0.8, linestyle=":")
    axes.set(
        yticks=range(len(names)),
        yticklabels=[short_name(name) for name in names],
        xlabel="log p̂(x) − that of the best (nats per point, bars: two standard errors)",
    )
    axes.set_ylim(len(names) - 0.5, -0.7)
    axes.margins(x=0.12)
    if not all(sure.values()):
        axes.plot([], [], "o", color="grey", label="reliable")
        axes.plot([], [], "o", color="grey", markerfacecolor="white", label="one is a lower bound")
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return figure
