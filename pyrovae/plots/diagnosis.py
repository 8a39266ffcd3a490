"""Figures of a diagnosis: which latents are used, where encodings and prior lie, and what the places between decode to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..diagnostics.prior_holes import TAIL_FRACTION
from ..diagnostics.result import ACTIVE_VARIANCE, LatentDiagnostics
from .contours import prior_contours
from .pictures import cell_centres, draw_images
from .style import COLOURS, new_axes, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

USED, IDLE, PRIOR = COLOURS[0], "0.7", COLOURS[1]


def activity_curve(diagnosis: LatentDiagnostics, axes: Axes | None = None) -> Figure:
    """Draw the number of active units for every threshold: a cliff is a clear answer, a slope says that the threshold decides."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_axes(axes)
    thresholds, active = diagnosis.activity_curve()
    axes.step(thresholds, active, where="post", color=USED)
    axes.axvline(ACTIVE_VARIANCE, color="0.4", linestyle="--", linewidth=1)
    count = diagnosis.active_units()
    axes.annotate(
        f"{count} of {len(diagnosis.names)} above {ACTIVE_VARIANCE}",
        (ACTIVE_VARIANCE, count),
        (6, 6),
        textcoords="offset points",
    )
    axes.set(
        xscale="log",
        xlabel="threshold on Var$_x$(E[z$_j$|x])",
        ylabel="active units",
        ylim=(0, 1.12 * len(diagnosis.names)),
        title="Active units at each threshold",
    )
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def kl_bars(diagnosis: LatentDiagnostics, axes: Axes | None = None) -> Figure | None:
    """Draw the KL of each latent, largest first; None where no latent has one of its own."""
    known = [j for j in range(len(diagnosis.names)) if math.isfinite(diagnosis.unit_kl[j])]
    if not known:
        return None
    order = sorted(known, key=lambda j: -float(diagnosis.unit_kl[j]))
    figure, axes = new_axes(axes, (max(6.4, 1.5 + 0.17 * len(order)), 4.0))
    for active, colour, label in ((True, USED, "active"), (False, IDLE, "idle")):
        places = [place for place, j in enumerate(order) if bool(diagnosis.activity[j] > ACTIVE_VARIANCE) == active]
        if places:
            axes.bar(places, [float(diagnosis.unit_kl[order[place]]) for place in places], color=colour, label=label)
    axes.set_xticks(
        range(len(order)), [diagnosis.names[j] for j in order], rotation=90 if len(order) > 12 else 0, fontsize=8
    )
    axes.set_xlim(-0.6, max(len(order), 6) - 0.4)  # a few bars do not fill the figure
    what = "KL(q(z$_j$|x) ‖ p(z$_j$))" if diagnosis.factorised else "KL of the marginal q(z$_j$|x) to p(z$_j$)"
    axes.set(ylabel="nats per point", title=f"{what}, mean over {len(diagnosis)} points")
    if any(diagnosis.activity[j] <= ACTIVE_VARIANCE for j in known):
        axes.legend(frameon=False)
    return figure


def aggregate_and_prior(diagnosis: LatentDiagnostics) -> Figure:
    """Draw encodings on the two most active latents over the prior, and how near draws of the prior are to encodings.

    The second panel is there where holes were looked for. It has encodings of points left out beside the prior's draws.
    """
    holes = diagnosis.holes
    figure = new_figure((11 if holes else 5.6, 4.8))
    panels = figure.subplots(1, 2 if holes else 1, squeeze=False)[0]
    order = diagnosis.activity.argsort(descending=True)[:2].tolist()
    encodings, prior = diagnosis.draws.flatten(0, 1), diagnosis.prior_draws
    encodings = encodings[torch.linspace(0, len(encodings) - 1, min(len(encodings), 3000)).long()]
    if len(order) == 2:
        axes = panels[0]
        axes.scatter(*encodings[:, order].mT, s=4, color=USED, alpha=0.35, linewidths=0, label="encodings, q(z)")
        prior_contours(axes, diagnosis.prior_density, prior[:, order], PRIOR)
        axes.set_aspect("equal", adjustable="datalim")
        panels[0].set(
            xlabel=diagnosis.names[order[0]], ylabel=diagnosis.names[order[1]], title="The two most active latents"
        )
    else:
        bins = torch.linspace(*_span(torch.cat([encodings, prior])[:, 0]), 60).tolist()
        panels[0].hist(encodings[:, 0], bins, density=True, color=USED, alpha=0.6, label="encodings, q(z)")
        panels[0].hist(prior[:, 0], bins, density=True, color=PRIOR, histtype="step", label="prior, p(z)")
        panels[0].set(xlabel=diagnosis.names[0], title="The one latent")
    panels[0].legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, markerscale=3)
    if holes is not None:
        _scores(panels[1], diagnosis)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _scores(axes: Axes, diagnosis: LatentDiagnostics) -> None:
    holes = diagnosis.holes
    assert holes is not None
    everything = [(holes.reference.flatten(), USED, "encodings of points left out of q(z)")]
    everything.append((holes.scores, PRIOR, "draws of the prior"))
    if holes.midpoints is not None:
        everything.append((holes.midpoints, COLOURS[2], "halfway between two encodings"))
    high = max(float(scores.max()) for scores, _, _ in everything)
    room = 0.03 * (high - holes.threshold or 1.0)
    low = holes.threshold - 20 * room
    bins = torch.linspace(low, high + room, 70).tolist()
    for scores, colour, label in everything:
        axes.hist(scores.clamp(min=low), bins, density=True, histtype="step", color=colour, linewidth=1.5, label=label)
    axes.axvspan(low, holes.threshold, color="0.5", alpha=0.15, linewidth=0)
    axes.set(
        xlim=(low, high + room),
        yticks=[],
        xlabel="log q(z), nats (what is lower is in the first bar)",
        title=f"{holes.share.value:.1%} of the prior's draws are in holes (grey)\n"
        f"against {TAIL_FRACTION:.0%} of the encodings, by which holes are defined",
    )
    axes.spines["left"].set_visible(False)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=9)


def _span(values: Tensor) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def hole_pictures(rows: dict[str, Tensor], shape: tuple[int, ...], columns: int = 12) -> Figure:
    """Draw rows of images, each (n, D) grey levels in [0, 1], under what they are."""
    figure = new_figure((0.6 * columns + 0.4, 1.0 * len(rows) + 0.2))
    for axes, (name, images) in zip(figure.subplots(len(rows), squeeze=False)[:, 0], rows.items(), strict=True):
        draw_images(axes, images[:columns], shape, columns)
        axes.set_title(name, fontsize=9, loc="left")
    return figure


def boundary_pictures(ends: Tensor, paths: Tensor, labels: list[str], shape: tuple[int, ...], title: str) -> Figure:
    """Draw a row for each of P pairs of points: x_a, E[x|z] on the straight line between the encodings, and x_b.

    `ends` is (P, 2, D), and `paths` is (P, T, D). T is odd, and the boundary sample in the middle is framed.
    """
    from matplotlib.patches import Rectangle

    pairs, steps = paths.shape[:2]
    figure = new_figure((0.62 * (steps + 2) + 1.9, 0.68 * pairs + 0.9))
    axes = figure.subplots()
    axes.set_title(title, fontsize=10, pad=24)
    pictures = torch.cat([ends[:, :1], paths, ends[:, 1:]], dim=1).flatten(0, 1)
    height, width = draw_images(axes, pictures, shape, steps + 2)
    heads = {0: "x$_a$", 1: "E[x|z$_a$]", (steps + 1) // 2: "halfway", steps: "E[x|z$_b$]", steps + 1: "x$_b$"}
    across, down = cell_centres(steps + 2, width), cell_centres(pairs, height)
    axes.xaxis.tick_top()
    axes.set_xticks([across[column] for column in heads], list(heads.values()), fontsize=9)
    axes.set_yticks(down, labels, fontsize=8)
    axes.tick_params(length=0)
    for row in range(pairs):
        corner = ((steps + 1) // 2 * width - 0.5, row * height - 0.5)
        axes.add_patch(Rectangle(corner, width + 1, height + 1, fill=False, color=PRIOR, linewidth=2))
    return figure
