"""Figures of a latent space: points in it, and what the decoder makes of its places."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InvalidInputError
from ..exploration import Ellipses, Encodings, Manifold, Traversals
from .contours import prior_contours
from .pictures import View
from .style import CLASS_COLOURS, CLASS_MARKERS, COLOURS, new_axes, new_figure, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..data.datasets import Data

MAX_COLUMNS = 16  # of a table, that have a panel
TICKS = 5  # along a manifold
MAX_POINTS = 5000  # in a scatter: of more, so many at equal distances
ELLIPSE_RADIUS = math.sqrt(-2 * math.log(0.1))  # of N(0, I) in the plane: 90 % lie inside


def latent_scatter(
    encodings: Encodings,
    labels: Tensor | None = None,
    label_names: tuple[str, ...] = (),
    ellipses: Ellipses | None = None,
    *,
    draws: bool = False,
    axes: Axes | None = None,
) -> Figure:
    """Draw points in the plane of two latents, coloured by label, over the contours of the prior.

    Args:
        encodings: What `exploration.encode` returned.
        labels: The class of each point (N,), whole numbers from 0; None: one colour.
        label_names: The names of the classes, which are written where most of their points are.
        ellipses: What `exploration.ellipses` returned: of q(z|x) and of the true posterior, each with 90 % of it inside.
        draws: Draw z ~ q(z|x) instead of the means E[z|x].
        axes: Where to draw; a new figure if not given.

    Returns:
        The figure. Of more than 5,000 points it has 5,000.

    Raises:
        InvalidInputError: The labels are not one whole number for each point.
    """
    _check_labels(labels, len(encodings.means))
    figure, axes = new_axes(axes, (5.6, 5.2))
    points = encodings.draws if draws else encodings.means
    if points.shape[1] == 1:  # one latent: classes below each other
        height = labels if labels is not None else torch.zeros(len(points))
        noise = torch.linspace(-0.3, 0.3, 11)[torch.arange(len(points)) % 11]
        points = torch.stack([points[:, 0], height + noise], dim=1)
    kept = torch.linspace(0, len(points) - 1, min(len(points), MAX_POINTS)).long()
    points, classes = points[kept], None if labels is None else labels[kept]
    size = 14 if len(points) < 1500 else 5
    if classes is None:
        axes.scatter(points[:, 0], points[:, 1], s=size, color=COLOURS[0], alpha=0.6, linewidths=0, rasterized=True)
    else:
        for label in classes.unique().tolist():
            turn, colour = divmod(label, len(CLASS_COLOURS))
            own = points[classes == label]
            style = {"color": CLASS_COLOURS[colour], "marker": CLASS_MARKERS[turn % len(CLASS_MARKERS)]}
            axes.scatter(own[:, 0], own[:, 1], s=size, alpha=0.75, linewidths=0, rasterized=True, **style)
            if encodings.means.shape[1] == 2:
                name = label_names[label] if label < len(label_names) else str(label)
                _write(axes, name, own.median(0).values, CLASS_COLOURS[colour])
    if ellipses is not None:
        _draw_ellipses(axes, ellipses)
    if encodings.means.shape[1] == 2:
        prior_contours(axes, encodings.prior, None, "0.35")
        axes.set(xlabel=encodings.names[0], ylabel=encodings.names[1])
        axes.set_aspect("equal", adjustable="datalim")
        axes.locator_params(nbins=6)
    else:
        axes.set(xlabel=encodings.names[0])
        if labels is None:
            axes.set(yticks=[])
        else:
            present = labels.unique().tolist()
            axes.set_yticks(present, [label_names[k] if k < len(label_names) else str(k) for k in present])
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, fontsize=8)
    return figure


def latent_scatters(
    encodings: Mapping[str, Encodings],
    labels: Tensor | None = None,
    label_names: tuple[str, ...] = (),
    *,
    draws: bool = False,
) -> Figure:
    """Draw the same points in the latent spaces of several pairs, side by side.

    Args:
        encodings: What `exploration.encode` returned for each pair, by its name.
        labels: As of `latent_scatter`.
        label_names: As of `latent_scatter`.
        draws: As of `latent_scatter`.

    Returns:
        The figure.
    """
    if not encodings:
        raise InvalidInputError("There are no encodings to draw: give at least one, {'name': exploration.encode(...)}.")
    figure = new_figure((4.6 * len(encodings), 4.9))
    panels = figure.subplots(1, len(encodings), squeeze=False)[0]
    for axes, (name, found) in zip(panels, encodings.items(), strict=True):
        latent_scatter(found, labels, label_names, draws=draws, axes=axes)
        axes.set_title(name, fontsize=10)
    return figure


def manifold(result: Manifold, data: Data) -> Figure:
    """Draw the decoded grid of two latents.

    Args:
        result: What `exploration.manifold` returned.
        data: The data set.

    Returns:
        The figure. Where x is no image, a panel for each column has its mean over the plane.
    """
    if data.shape is None:
        return _column_maps(result, data)
    rows, columns = result.decoded.shape[:2]
    view = View(data, result.decoded.flatten(0, 1))
    width, height = view.size(columns, rows)
    scale = min(1.0, 7.5 / max(width, height))
    figure = new_figure((max(3.0, scale * width + 0.9), max(1.3, scale * height + 0.7)))
    axes = figure.subplots()
    view.draw(axes, view.groups[0], columns)
    places, down = view.centres(axes, columns), view.row_centres(axes, rows)
    shown = torch.linspace(0, columns - 1, min(columns, TICKS)).round().long().tolist()
    axes.set_xticks([places[k] for k in shown], [number(float(result.across[k]), 1) for k in shown], fontsize=8)
    axes.set_xlabel(result.names[0])
    if len(result.names) == 2:
        shown = torch.linspace(0, rows - 1, min(rows, TICKS)).round().long().tolist()
        axes.set_yticks([down[k] for k in shown], [number(float(result.up[k]), 1) for k in shown], fontsize=8)
        axes.set_ylabel(result.names[1])
    return figure


def _column_maps(result: Manifold, data: Data) -> Figure:
    """E[x_d|z] of each column over the plane."""
    names = data.column_names or tuple(f"column {j}" for j in range(data.dim))
    shown = min(len(names), MAX_COLUMNS)
    columns = min(4, shown)
    rows = -(-shown // columns)
    figure = new_figure((2.6 * columns, 2.3 * rows + 0.2))
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    extent = (float(result.across[0]), float(result.across[-1]), 0.0, 1.0)
    if len(result.names) == 2:
        extent = (*extent[:2], float(result.up[-1]), float(result.up[0]))
    for axes, j in zip(panels, range(shown), strict=False):
        picture = axes.imshow(result.decoded[..., j].numpy(), cmap="cividis", extent=extent, aspect="auto")
        axes.set_title(names[j], fontsize=8)
        axes.tick_params(labelsize=7)
        if len(result.names) == 1:
            axes.set(yticks=[])
        figure.colorbar(picture, ax=axes).ax.tick_params(labelsize=7)
    for axes in panels[shown:]:
        axes.set_visible(False)
    if shown < len(names):
        figure.suptitle(f"the first {shown} of {len(names)} columns", fontsize=9)
    figure.supxlabel(result.names[0], fontsize=9)
    if len(result.names) == 2:
        figure.supylabel(result.names[1], fontsize=9)
    return figure


def traversals(result: Traversals, data: Data) -> Figure:
    """Draw E[x|z] along one latent at a time, a row for each, with its KL.

    Args:
        result: What `exploration.traverse` returned.
        data: The data set.

    Returns:
        The figure. Values are above the columns where all latents have the same.
    """
    rows, steps = result.decoded.shape[:2]
    view = View(data, *result.decoded)
    width, height = view.size(steps)
    figure = new_figure((max(3.2, width + 1.3), rows * (height + 0.1) + 0.6))
    panels = figure.subplots(rows, 1, squeeze=False)[:, 0]
    for axes, values, name, kl in zip(panels, view.groups, result.names, result.kl.tolist(), strict=True):
        view.draw(axes, values, steps)
        text = name if math.isnan(kl) else f"{name}\nKL {kl:.2f}"
        if view.is_image:
            axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9)
            axes.set_anchor("E")
        else:
            axes.set_title(text.replace("\n", ", "), fontsize=9, loc="left")
    if torch.allclose(result.values, result.values[:1].expand_as(result.values)):
        axes = panels[-1]
        places = view.centres(axes, steps)
        axes.set_xticks(places, [number(value, 1) for value in result.values[0].tolist()], fontsize=8)
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel("value of the latent", fontsize=9)
    return figure


def _check_labels(labels: Tensor | None, count: int) -> None:
    if labels is None:
        return
    if labels.shape != (count,):
        raise InvalidInputError(
            f"There are {count} points, and the labels have the shape {tuple(labels.shape)}: give one label for each point."
        )
    if labels.is_floating_point() or labels.is_complex():
        raise InvalidInputError(f"The labels are {labels.dtype}: give whole numbers from 0, such as labels.long().")


def _write(axes: Axes, text: str, place: Tensor, colour: str) -> None:
    """Black on white, so that it can be read beside any colour, in a frame of the colour of its points."""
    shape = "circle,pad=0.2" if len(text) == 1 else "round,pad=0.2"
    frame = {"boxstyle": shape, "facecolor": "white", "edgecolor": colour, "linewidth": 2, "alpha": 0.9}
    x, y = place.tolist()
    axes.text(x, y, text, fontsize=9, fontweight="bold", ha="center", va="center", bbox=frame)


def _draw_ellipses(axes: Axes, ellipses: Ellipses) -> None:
    angle = torch.linspace(0, 2 * math.pi, 101, dtype=torch.float64)
    circle = ELLIPSE_RADIUS * torch.stack([angle.cos(), angle.sin()], dim=1)
    kinds = {
        "q(z|x)": (ellipses.guide_mean, ellipses.guide_covariance, "black", "-"),
        "true posterior p(z|x)": (ellipses.posterior_mean, ellipses.posterior_covariance, COLOURS[1], "--"),
    }
    for name, (means, covariances, colour, line) in kinds.items():
        for place, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
            border = mean + circle @ torch.linalg.cholesky(covariance).mT
            axes.plot(
                *border.mT, color=colour, linestyle=line, linewidth=1.3, label=f"{name}, 90 %" if place == 0 else None
            )
