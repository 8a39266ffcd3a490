"""The figure of the Pareto tail indices: at how many points the weights of each guide can be relied on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..errors import InvalidInputError
from ..evaluation.comparison import Comparison
from .style import LEGEND_CURVES, legend, line_style, new_axes, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOWEST = -0.5  # of the axis: smaller k̂ are drawn here


def pareto_k_plot(comparison: Comparison, axes: Axes | None = None) -> Figure:
    """Draw k̂ of every point, from the smallest to the largest, for each model.

    Above the dashed line a few draws carry most of the weight, and log p̂(x) from draws of the guide is only a lower bound.

    Args:
        comparison: What was compared.
        axes: Where to draw; a new figure if not given.

    Returns:
        The figure. Models whose weights do not vary, as with an exact guide, are left out.

    Raises:
        InvalidInputError: No model is left, or there are fewer draws than k̂ needs.
    """
    shown = {
        name: (place, evidence)
        for place, (name, evidence) in enumerate(comparison.evidence.items())
        if not evidence.deterministic_guide and bool((evidence.pareto_k > -torch.inf).any())
    }
    if not shown:
        raise InvalidInputError("There is no k̂ to draw: weights must vary, and there must be more than 25 draws.")
    figure, axes = new_axes(axes, (7.0, 4.0))
    for name, (place, evidence) in shown.items():
        ordered = evidence.pareto_k.double().nan_to_num(torch.inf).sort().values
        finite = ordered[ordered.isfinite()]
        above = float(finite.max()) + 0.2 if len(finite) else 1.0
        share = 100 * (torch.arange(len(ordered)) + 1) / len(ordered)
        label = f"{short_name(name)}: {evidence.high_pareto_k_fraction:.0%} above"
        axes.plot(share, ordered.clamp(LOWEST, max(above, 1.0)), **line_style(place), label=label)
    limits = {evidence.pareto_k_threshold for _, evidence in shown.values()}
    for limit in limits:
        axes.axhline(limit, color="grey", linestyle="--", linewidth=1)
        axes.annotate(f"{limit:.2f}", (0, limit), (2, 3), textcoords="offset points", color="0.35", fontsize=8)
    axes.set(xlabel="held-out points, sorted by k̂ (%)", ylabel="k̂ of the guide's weights", xlim=(0, 100))
    axes.set_ylim(bottom=LOWEST - 0.05)
    legend(axes, LEGEND_CURVES + 1)
    return figure
