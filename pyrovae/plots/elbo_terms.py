"""The figure of a training: the ELBO, its two terms, and the points held out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..errors import InvalidInputError
from ..evaluation.result import Evidence
from ..training import FitResult
from .style import COLOURS, LEGEND_CURVES, legend, new_axes, whole_ticks, zoom

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def training(fit: FitResult, evidence: Evidence | None = None, axes: Axes | None = None) -> Figure:
    """Draw ELBO = reconstruction − KL over the epochs. The shaded band between the two curves is the KL.

    Args:
        fit: How the training went.
        evidence: What `evaluate` found on held-out points: its ELBO is marked after the last epoch.
        axes: Where to draw; a new figure if not given.

    Returns:
        The figure. Where the objective tells no ELBO, minus the loss is drawn.

    Raises:
        InvalidInputError: The training has no epoch.
    """
    if not fit.history:
        raise InvalidInputError(
            "This pair was not trained in epochs: its parameters have a closed form, so there is no curve."
        )
    figure, axes = new_axes(axes, (6.8, 4.2))
    epochs = [epoch + 1 for epoch in range(len(fit.history))]
    elbo, reconstruction = ([row[key] for row in fit.history] for key in ("elbo", "reconstruction"))
    marker = "o" if len(epochs) < 3 else None
    shown: list[float] = []
    if any(map(math.isfinite, elbo)):
        if any(map(math.isfinite, reconstruction)):
            axes.plot(epochs, reconstruction, color=COLOURS[2], marker=marker, label="reconstruction E[log p(x|z)]")
            axes.fill_between(
                epochs, elbo, reconstruction, color=COLOURS[4], alpha=0.3, linewidth=0, label="KL(q(z|x) ‖ p(z))"
            )
            shown += _visible(reconstruction)
        axes.plot(epochs, elbo, color=COLOURS[0], marker=marker, label="ELBO = reconstruction − KL")
        shown += _visible(elbo)
        held_out = [row["validation_elbo"] for row in fit.history]
        if any(map(math.isfinite, held_out)):
            axes.plot(epochs, held_out, color=COLOURS[1], linestyle="--", label="ELBO of points held out")
            shown += _visible(held_out)
        axes.set(ylabel="nats per point")
    else:
        loss = [-value for value in fit.losses]
        axes.plot(epochs, loss, color=COLOURS[0], marker=marker, label="− loss")
        shown += _visible(loss)
        axes.set(ylabel="− training loss (per point)")
    if evidence is not None:
        mean = evidence.mean_elbo
        error = 0.0 if math.isnan(mean.data_se) else mean.data_se
        axes.errorbar(
            epochs[-1] * 1.03,
            mean.value,
            yerr=error,
            fmt="D",
            color=COLOURS[1],
            capsize=3,
            label="held-out ELBO, ± data error",
        )
        shown += [mean.value - error, mean.value + error]
    zoom(axes, shown, 0.05)
    axes.set(xlabel="epoch")
    whole_ticks(axes.xaxis)
    legend(axes, LEGEND_CURVES)
    return figure


def _visible(curve: list[float]) -> list[float]:
    """The range of a curve without its first twentieth, which lies far below what one wants to see."""
    known = [value for value in curve if math.isfinite(value)]
    return [min(known[len(known) // 20 :]), max(known)]
