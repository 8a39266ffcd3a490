"""Figures of a comparison: how training went, what the models draw, where each model's numbers stand, and how they got there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from ..evaluation.comparison import Comparison
from ..evaluation.result import Evidence
from ..training import FitResult
from .pictures import draw_images
from .style import (
    LEGEND_CURVES,
    RELIABLE,
    legend,
    line_style,
    mark_fill,
    new_axes,
    new_figure,
    number,
    short_name,
    whole_ticks,
    zoom,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, NARROW = (9.0, 4.5), (6.4, 4.0)  # inches, with a legend beside the curves and among them
LEAST_RANGE = 0.1  # nats, of an axis of gaps or bounds
HELD_OUT_PLACE = 103  # % of the epochs: where the held-out ELBO of each model is marked


def learning_curves(
    fits: Mapping[str, FitResult], evidence: Mapping[str, Evidence] | None = None, axes: Axes | None = None
) -> Figure:
    """Draw the training ELBO of each fit, and beside its end the held-out ELBO.

    One fit is drawn against its epochs, several against the share of their epochs that is done. Where a fit knows no ELBO, minus its
    loss is drawn. Dashed is the ELBO of points held out during training, where there were any.

    Args:
        fits: The trainings, by the name of the model.
        evidence: What `evaluate` found, by the same names: its ELBO on the held-out points is marked after the curve.
        axes: Where to draw; a new figure if not given.

    Returns:
        The figure.
    """
    figure, axes = new_axes(axes, NARROW if len(fits) <= LEGEND_CURVES else WIDE)
    evidence = evidence or {}
    shown: list[float] = []
    elbos = any(math.isfinite(row["elbo"]) for fit in fits.values() for row in fit.history)
    order = [*evidence, *(name for name in fits if name not in evidence)]  # one colour a model, as in the other figures
    for name, fit in fits.items():
        place = order.index(name)
        curve = [row["elbo"] for row in fit.history]
        loss = bool(curve) and not any(map(math.isfinite, curve))  # there is no density, or the objective does not tell
        if loss:
            curve = [-value for value in fit.losses]
        unit = 1.0 if len(fits) == 1 else 100 / max(1, len(curve))
        epochs = [unit * (epoch + 1) for epoch in range(len(curve))]
        remark = "; − loss, not ELBO" if loss and elbos else ""
        label = f"{short_name(name)} ({len(curve)} epoch{'s' if len(curve) != 1 else ''}{remark})"
        axes.plot(epochs, curve, **line_style(place), label=label, marker="o" if len(curve) < 3 else None)
        if curve:
            known = [value for value in curve if math.isfinite(value)]
            shown += [known[len(known) // 20], max(known)]  # the first steps fall far below what one wants to see
        held_out = [row["validation_elbo"] for row in fit.history]
        if any(map(math.isfinite, held_out)):
            axes.plot(epochs, held_out, color=line_style(place)["color"], linestyle="--", linewidth=1)
            shown.append(max(filter(math.isfinite, held_out)))
        if name in evidence:
            elbo = evidence[name].mean_elbo
            end = HELD_OUT_PLACE if len(fits) > 1 else 1.03 * len(curve)
            error = 0.0 if math.isnan(elbo.data_se) else elbo.data_se
            axes.errorbar(
                end, elbo.value, yerr=error, fmt="D", markersize=5, color=line_style(place)["color"], capsize=3
            )
            shown += [elbo.value - error, elbo.value + error]
    if shown:
        zoom(axes, shown, 0.08)
    if evidence:
        axes.plot([], [], "D", color="0.4", markersize=5, label="held-out ELBO, ± data error")
    axes.set(
        xlabel="epoch" if len(fits) == 1 else "training done (% of epochs)",
        ylabel="training ELBO (nats per point)" if elbos else "− training loss (per point)",
    )
    if len(fits) == 1:
        whole_ticks(axes.xaxis)
    else:
        axes.set_xticks(range(0, 101, 20))
        axes.set_xlim(right=HELD_OUT_PLACE + 3)
    legend(axes, len(fits))
    return figure


def samples_beside_data(
    data: Tensor, num_samples: Mapping[str, Tensor], shape: tuple[int, ...], columns: int = 12
) -> Figure:
    """Draw held-out images in the first rows, then as many samples of each model.

    Args:
        data: The images (n, D), grey levels in [0, 1].
        num_samples: Samples of each model (n, D), by its name.
        shape: Height and width of an image.
        columns: Images in a row.

    Returns:
        The figure.
    """
    rows = {"data": data, **num_samples}
    names = max(1.6, 0.6 + 0.1 * max(map(len, rows)))  # inches beside the images
    figure = new_figure((columns * 0.55 + names, len(rows) * 1.25))
    for axes, (name, images) in zip(figure.subplots(len(rows), squeeze=False)[:, 0], rows.items(), strict=True):
        draw_images(axes, images[: 2 * columns], shape, columns)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.set_anchor("E")
    return figure


def evidence_plot(comparison: Comparison) -> Figure:
    """Draw log p̂(x), exact log p(x) and ELBO of each model on one scale, and the gap beside it.

    Bars are one data standard error. A mark of log p̂(x) is filled where it is reliable, and hollow where it is a lower bound.

    Args:
        comparison: What was compared.

    Returns:
        The figure.
    """
    names = list(comparison.evidence)
    width = 8.5 + 0.08 * max(0, max(map(len, names)) - 16)  # inches; longer names take no room from the numbers
    figure = new_figure((width, 1.4 + 0.6 * len(names)))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2, 1])
    for place, name in enumerate(names):
        colour = line_style(place)["color"]
        evidence = comparison.evidence[name]
        estimate, bound, gap = evidence.mean_log_likelihood, evidence.mean_elbo, evidence.mean_gap
        exact = evidence.mean_exact_log_likelihood
        first = place == 0
        left.errorbar(bound.value, place + 0.15, xerr=bound.data_se, fmt="<", color=colour, alpha=0.5, capsize=3)
        left.errorbar(
            estimate.value,
            place - 0.15,
            xerr=estimate.data_se,
            fmt="o",
            color=colour,
            capsize=3,
            **mark_fill(evidence.reliability == RELIABLE),
        )
        text = number(estimate.value)
        left.annotate(text, (estimate.value, place - 0.15), (0, 13), textcoords="offset points", ha="center")
        if exact is not None:
            left.plot(exact.value, place - 0.15, "|", color="black", markersize=18, markeredgewidth=1.5)
        length, error = (0.0, 0.0) if evidence.deterministic_guide else (max(gap.value, 0.0), gap.data_se)
        right.barh(place, length, xerr=error, color=colour, height=0.5, capsize=3)
        text = "unknown" if evidence.deterministic_guide else f"{length:.2f}"
        right.annotate(text, (length + error, place), (4, 0), textcoords="offset points", va="center")
        if first:
            left.plot([], [], "o", color="grey", label="log p̂(x), reliable")
            if any(other.reliability != RELIABLE for other in comparison.evidence.values()):
                left.plot([], [], "o", color="grey", markerfacecolor="white", label="log p̂(x), a lower bound")
            left.plot([], [], "<", color="grey", alpha=0.5, label="ELBO")
            left.plot([], [], "|", color="black", markersize=12, label="exact log p(x)")
    left.set(
        yticks=range(len(names)),
        yticklabels=[short_name(name) for name in names],
        xlabel="nats per point, more is better (bars: one data standard error)",
    )
    left.set_ylim(len(names) - 0.5, -0.5)
    right.set(xlabel="gap = log p̂(x) − ELBO (nats)")
    right.margins(x=0.25)
    right.set_xlim(0, max(right.get_xlim()[1], LEAST_RANGE))
    left.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.03), ncols=2)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def bound_curves(comparison: Comparison, axes: Axes | None = None) -> Figure:
    """Draw the bound L_K of each model over the number of draws K, averaged over points, with two Monte-Carlo standard errors.

    A line at the right level is the exact log p(x), or log p̂(x) by another method, where there is one. A curve below it has not
    arrived. The last point is hollow where log p̂(x) is not reliable.

    Args:
        comparison: What was compared.
        axes: Where to draw; a new figure if not given.

    Returns:
        The figure.
    """
    several = len(comparison.evidence) > 1  # among several curves a legend would hide some
    figure, axes = new_axes(axes, WIDE if several else NARROW)
    for place, (name, evidence) in enumerate(comparison.evidence.items()):
        curve = evidence.mean_bound_curve
        draws, bounds = list(curve), list(curve.values())
        errors = [0.0 if bound.mc_se != bound.mc_se else 2 * bound.mc_se for bound in bounds]
        axes.errorbar(
            draws,
            [bound.value for bound in bounds],
            yerr=errors,
            marker="o",
            **line_style(place),
            capsize=3,
            label=short_name(name),
        )
        if evidence.reliability != RELIABLE:
            axes.plot(
                draws[-1],
                bounds[-1].value,
                "o",
                color=line_style(place)["color"],
                zorder=5,
                **mark_fill(False),
            )
        exact = evidence.mean_exact_log_likelihood
        if exact is not None:
            axes.axhline(
                exact.value, color=line_style(place)["color"], linestyle=":", label=f"{short_name(name)}, exact"
            )
        elif evidence.bound_error is not None:
            level = evidence.mean_log_likelihood.value
            axes.axhline(level, color=line_style(place)["color"], linestyle="--", label=f"{short_name(name)}, log p̂(x)")
    if any(evidence.reliability != RELIABLE for evidence in comparison.evidence.values()):
        axes.plot([], [], "o", color="grey", label="log p̂(x), a lower bound", **mark_fill(False))
    low, high = axes.get_ylim()
    room = max(0.0, LEAST_RANGE - (high - low)) / 2  # rounding errors do not fill the axes
    axes.set_ylim(low - room, high + room)
    axes.set(xscale="log", xlabel="draws $K$", ylabel="$L_K$ (nats per point ± 2 Monte-Carlo errors)")
    legend(axes, LEGEND_CURVES + several)
    return figure
