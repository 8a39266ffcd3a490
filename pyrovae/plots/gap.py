"""The figure of the gaps: stacked bars of what the family cannot reach and what the network loses of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from ..errors import InvalidInputError
from ..evaluation.gap_decomposition import GapResult
from .style import COLOURS, RELIABLE, mark_fill, new_figure, number, whole_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {
    "approximation": ("approximation gap: log p̂(x) − L[q*], the family's", COLOURS[0]),
    "amortisation": ("amortisation gap: L[q*] − L[q(z|x)], the network's", COLOURS[4]),
}


def gap_bars(gaps: Mapping[str, GapResult]) -> Figure:
    """Draw the mean gaps of each run, stacked, with the data error of each, and beside them those of every point.

    The mark at the end of a bar is log p̂(x). It is filled if that is reliable, and hollow if it is a lower bound: then the
    approximation gap is larger than drawn.

    Args:
        gaps: What `gap` found, by the name of the run.

    Returns:
        The figure.

    Raises:
        InvalidInputError: There are no gaps.
    """
    if not gaps:
        raise InvalidInputError("There are no gaps to draw: give at least one, {'name': pyrovae.gap(...)}.")
    figure = new_figure((9.5, 1.9 + 0.75 * len(gaps)))
    widths = [2.2] + [2.6 / len(gaps)] * len(gaps)
    left, *right = figure.subplots(1, 1 + len(gaps), width_ratios=widths, squeeze=False)[0]
    for place, result in enumerate(gaps.values()):
        base, shown = 0.0, []
        for part, (label, colour) in PARTS.items():
            value, _, error = getattr(result, f"mean_{part}")
            error = 0.0 if error != error else error  # one point has none
            left.barh(
                place,
                value,
                left=base,
                xerr=error,
                height=0.5,
                color=colour,
                capsize=3,
                label=label if place == 0 else None,
            )
            base += value
            shown.append(number(value))
        left.plot(base, place, "o", color="black", zorder=4, **mark_fill(result.reliability == RELIABLE))
        left.annotate(
            f"{' + '.join(shown)} = {number(base)}",
            (0, place - 0.27),
            (2, 2),
            textcoords="offset points",
            va="bottom",
            fontsize=9,
        )
    for reliable, label in ((True, "log p̂(x), reliable"), (False, "log p̂(x), a lower bound")):
        if any((result.reliability == RELIABLE) == reliable for result in gaps.values()):
            left.plot([], [], "o", color="black", label=label, **mark_fill(reliable))
    names = [f"{name}\n({result.family})" for name, result in gaps.items()]
    left.set(
        yticks=range(len(gaps)), yticklabels=names, xlabel="mean over points, nats\n(bars: one data standard error)"
    )
    left.set_ylim(len(gaps) - 0.5, -0.65)
    for axes in right[1:]:
        axes.sharey(right[0])  # a nat is as high in all
    for axes, (name, result) in zip(right, gaps.items(), strict=True):
        approximation, amortisation = result.approximation, result.amortisation
        order = torch.argsort(approximation + amortisation, descending=True)
        bottom = torch.zeros(len(result), dtype=approximation.dtype)
        for part, (_, colour) in PARTS.items():
            value = getattr(result, part)[order]
            axes.bar(range(len(result)), value.numpy(), bottom=bottom.numpy(), width=1.0, color=colour)
            bottom = bottom + value
        axes.set(
            xlabel=f"{len(result)} points of {name},\nwidest gap first", ylabel="nats", xlim=(-0.5, len(result) - 0.5)
        )
        whole_ticks(axes.xaxis)
    for axes in (left, *right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*left.get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=2)
    return figure
