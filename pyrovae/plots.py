"""Figures of a comparison: how training went, what the models draw, where each model's numbers stand, and how they got there."""

from collections.abc import Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from .comparison import Comparison
from .training import Fit

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]  # Okabe & Ito: told apart by everyone


def learning_curves(fits: Mapping[str, Fit]) -> Figure:
    """Training ELBO in nats per point: of one fit against its epochs, of several against the share of their epochs done. Of
    models without log p(x), minus the loss."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    shown = []
    for (name, fit), colour in zip(fits.items(), _cycle(len(fits)), strict=True):
        curve = [-loss for loss in fit.losses]
        unit = 1.0 if len(fits) == 1 else 100 / max(1, len(curve))
        epochs = [unit * (epoch + 1) for epoch in range(len(curve))]
        label = f"{name} ({len(curve)} epoch{'s' if len(curve) != 1 else ''})"
        axes.plot(epochs, curve, color=colour, label=label, marker="o" if len(curve) < 3 else None)
        if curve:
            shown += [curve[len(curve) // 20], max(curve)]  # the first steps fall far below what one wants to see
    if shown:
        low, high = min(shown), max(shown)
        room = (high - low) or abs(high) or 1.0
        axes.set_ylim(low - 0.08 * room, high + 0.08 * room)
    axes.set(
        xlabel="epoch" if len(fits) == 1 else "training done (% of epochs)",
        ylabel="− training loss (per point)"
        if any(fit.no_density for fit in fits.values())
        else "training ELBO (nats per point)",
    )
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def samples_beside_data(
    data: Tensor, samples: Mapping[str, Tensor], shape: tuple[int, int], columns: int = 12
) -> Figure:
    """Held-out images in the first rows, then as many draws of each model: (n, D) grey levels in [0, 1]."""
    rows = {"data": data, **samples}
    figure = Figure(figsize=(columns * 0.55 + 1.6, len(rows) * 1.25), layout="constrained")
    for axes, (name, images) in zip(figure.subplots(len(rows), squeeze=False)[:, 0], rows.items(), strict=True):
        axes.imshow(grid(images[: 2 * columns], shape, columns).numpy(), cmap="gray_r", vmin=0, vmax=1)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
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
    names = list(comparison.evidence)
    figure = Figure(figsize=(8.5, 1.4 + 0.6 * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2, 1])
    for place, (name, colour) in enumerate(zip(names, _cycle(len(names)), strict=True)):
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
        length, error = (0.0, 0.0) if evidence.certain else (max(gap.value, 0.0), gap.data_se)
        right.barh(place, length, xerr=error, color=colour, height=0.5, capsize=3)
        text = "unknown" if evidence.certain else f"{length:.2f}"
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
    """L_K of each model over the number of draws K, averaged over points, two Monte-Carlo standard errors about it, and the
    exact log p(x) where there is one: a curve that still rises at its end has not arrived."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for (name, evidence), colour in zip(comparison.evidence.items(), _cycle(len(comparison.evidence)), strict=True):
        curve = evidence.mean_bound_curve
        draws, bounds = list(curve), list(curve.values())
        errors = [0.0 if bound.mc_se != bound.mc_se else 2 * bound.mc_se for bound in bounds]
        axes.errorbar(
            draws, [bound.value for bound in bounds], yerr=errors, fmt="o-", color=colour, capsize=3, label=name
        )
        exact = evidence.mean_exact_log_likelihood
        if exact is not None:
            axes.axhline(exact.value, color=colour, linestyle=":", label=f"{name}, exact")
    axes.set(xscale="log", xlabel="draws $K$", ylabel="$L_K$ (nats per point ± 2 Monte-Carlo errors)")
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _cycle(count: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]
