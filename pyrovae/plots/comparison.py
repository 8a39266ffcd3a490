"""Figures of a comparison: how training went, what the models draw, where each model's numbers stand, and how they got there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..evaluation.comparison import Comparison
from ..training import FitResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]  # Okabe & Ito: told apart by everyone
LEGEND_CURVES = 4  # curves among which a legend finds room
LINES = ["-", "--", ":", "-."]  # where there are more curves than colours


def learning_curves(fits: Mapping[str, FitResult]) -> Figure:
    """Training ELBO in nats per point: of one fit against its epochs, of several against the share of their epochs done. Minus the
    loss, where the fit knows no ELBO."""
    figure, axes = _curves(len(fits))
    shown: list[float] = []
    elbos = any(math.isfinite(row["elbo"]) for fit in fits.values() for row in fit.history)
    for place, (name, fit) in enumerate(fits.items()):
        curve = [row["elbo"] for row in fit.history]
        loss = bool(curve) and not any(map(math.isfinite, curve))  # there is no density, or the objective does not tell
        if loss:
            curve = [-value for value in fit.losses]
        unit = 1.0 if len(fits) == 1 else 100 / max(1, len(curve))
        epochs = [unit * (epoch + 1) for epoch in range(len(curve))]
        note = "; − loss, not ELBO" if loss and elbos else ""
        label = f"{name} ({len(curve)} epoch{'s' if len(curve) != 1 else ''}{note})"
        axes.plot(epochs, curve, **_line(place), label=label, marker="o" if len(curve) < 3 else None)
        if curve:
            known = [value for value in curve if math.isfinite(value)]
            shown += [known[len(known) // 20], max(known)]  # the first steps fall far below what one wants to see
    if shown:
        low, high = min(shown), max(shown)
        room = (high - low) or abs(high) or 1.0
        axes.set_ylim(low - 0.08 * room, high + 0.08 * room)
    axes.set(
        xlabel="epoch" if len(fits) == 1 else "training done (% of epochs)",
        ylabel="training ELBO (nats per point)" if elbos else "− training loss (per point)",
    )
    _legend(axes, len(fits))
    return figure


def samples_beside_data(
    data: Tensor, num_samples: Mapping[str, Tensor], shape: tuple[int, int], columns: int = 12
) -> Figure:
    """Held-out images in the first rows, then as many draws of each model: (n, D) grey levels in [0, 1]."""
    from matplotlib.figure import Figure

    rows = {"data": data, **num_samples}
    names = max(1.6, 0.6 + 0.1 * max(map(len, rows)))  # inches beside the images
    figure = Figure(figsize=(columns * 0.55 + names, len(rows) * 1.25), layout="constrained")
    for axes, (name, images) in zip(figure.subplots(len(rows), squeeze=False)[:, 0], rows.items(), strict=True):
        axes.imshow(grid(images[: 2 * columns], shape, columns).numpy(), cmap="gray_r", vmin=0, vmax=1)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.set_anchor("E")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure


def grid(images: Tensor, shape: tuple[int, int], columns: int) -> Tensor:
    """Images (n, D) as one picture, `columns` to a row, a pixel of white between them."""
    height, width = shape
    rows = -(-len(images) // columns)
    page = torch.zeros(rows * (height + 1) - 1, columns * (width + 1) - 1)
    for number, image in enumerate(images):
        top, left = number // columns * (height + 1), number % columns * (width + 1)
        page[top : top + height, left : left + width] = image.reshape(shape)
    return page


def evidence_plot(comparison: Comparison) -> Figure:
    """log p̂(x), exact log p(x) and ELBO of each model on one scale, with data errors; beside it the gap."""
    from matplotlib.figure import Figure

    names = list(comparison.evidence)
    width = 8.5 + 0.08 * max(0, max(map(len, names)) - 16)  # inches; longer names take no room from the numbers
    figure = Figure(figsize=(width, 1.4 + 0.6 * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2, 1])
    for place, name in enumerate(names):
        colour = _line(place)["color"]
        evidence = comparison.evidence[name]
        estimate, bound, gap = evidence.mean_log_likelihood, evidence.mean_elbo, evidence.mean_gap
        exact = evidence.mean_exact_log_likelihood
        first = place == 0
        left.errorbar(bound.value, place + 0.15, xerr=bound.data_se, fmt="<", color=colour, alpha=0.5, capsize=3)
        left.errorbar(estimate.value, place - 0.15, xerr=estimate.data_se, fmt="o", color=colour, capsize=3)
        left.annotate(
            f"{estimate.value:.2f}", (estimate.value, place - 0.15), (0, 13), textcoords="offset points", ha="center"
        )
        if exact is not None:
            left.plot(exact.value, place - 0.15, "|", color="black", markersize=18, markeredgewidth=1.5)
        length, error = (0.0, 0.0) if evidence.deterministic_guide else (max(gap.value, 0.0), gap.data_se)
        right.barh(place, length, xerr=error, color=colour, height=0.5, capsize=3)
        text = "unknown" if evidence.deterministic_guide else f"{length:.2f}"
        right.annotate(text, (length + error, place), (4, 0), textcoords="offset points", va="center")
        if first:
            left.plot([], [], "o", color="grey", label="log p̂(x)")
            left.plot([], [], "<", color="grey", alpha=0.5, label="ELBO")
            left.plot([], [], "|", color="black", markersize=12, label="exact log p(x)")
    left.set(
        yticks=range(len(names)),
        yticklabels=names,
        xlabel="nats per point, more is better (bars: one data standard error)",
    )
    left.set_ylim(len(names) - 0.5, -0.5)
    right.set(xlabel="gap = log p̂(x) − ELBO (nats)")
    right.set_xlim(left=0)
    right.margins(x=0.25)
    left.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def bound_curves(comparison: Comparison) -> Figure:
    """L_K of each model over the number of draws K, averaged over points, with two Monte-Carlo standard errors.

    Beside it the exact log p(x), or log p̂(x) by another method, where there is one. A curve below that has not arrived."""
    figure, axes = _curves(len(comparison.evidence))
    for place, (name, evidence) in enumerate(comparison.evidence.items()):
        curve = evidence.mean_bound_curve
        draws, bounds = list(curve), list(curve.values())
        errors = [0.0 if bound.mc_se != bound.mc_se else 2 * bound.mc_se for bound in bounds]
        axes.errorbar(
            draws, [bound.value for bound in bounds], yerr=errors, marker="o", **_line(place), capsize=3, label=name
        )
        exact = evidence.mean_exact_log_likelihood
        if exact is not None:
            axes.axhline(exact.value, color=_line(place)["color"], linestyle=":", label=f"{name}, exact")
        elif evidence.bound_error is not None:
            level = evidence.mean_log_likelihood.value
            axes.axhline(level, color=_line(place)["color"], linestyle="--", label=f"{name}, log p̂(x)")
    axes.set(xscale="log", xlabel="draws $K$", ylabel="$L_K$ (nats per point ± 2 Monte-Carlo errors)")
    _legend(axes, len(comparison.evidence))
    return figure


def _curves(count: int) -> tuple[Figure, Axes]:
    """A figure for so many curves, with room beside them where a legend among them would hide some."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4) if count <= LEGEND_CURVES else (9, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _line(place: int) -> dict[str, Any]:
    """The colour of the curve that is drawn at this place, and its kind of line."""
    turn, colour = divmod(place, len(COLOURS))
    return {"color": COLOURS[colour], "linestyle": LINES[turn % len(LINES)]}


def _legend(axes: Axes, count: int) -> None:
    if count <= LEGEND_CURVES:
        axes.legend(frameon=False)
    else:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
