"""The figure of the parts that a model adds up: classes of a mixture, or directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..exploration import Components
from .pictures import DIVERGING, View, draw_images
from .style import new_figure, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..data.datasets import Data

MAX_PARTS = 20
POINTS = 24  # whose responsibilities are shown
LABEL_INCHES = 1.5


def components(result: Components, data: Data) -> Figure:
    """Draw the classes of a mixture, or the directions of a linear model.

    Args:
        result: What `exploration.take_apart` returned.
        data: The data set.

    Returns:
        The figure. Of a mixture: the means with their weights, the standard deviations where they are known, and the
        responsibilities of some points. Of a linear model: the centre and each direction, with its share of the squared length.
    """
    return _mixture(result, data) if result.kind == "mixture" else _directions(result, data)


def _mixture(result: Components, data: Data) -> Figure:
    count = min(len(result.means), MAX_PARTS)
    view = View(data, result.means[:count])
    rows = 1 + (result.spreads is not None) + (result.responsibilities is not None)
    width, height = view.size(count)
    heights = [height + 0.3] * (rows - (result.responsibilities is not None))
    if result.responsibilities is not None:
        heights.append(max(1.2, 0.16 * count + 0.4))
    figure = new_figure((max(5.0, width + LABEL_INCHES + (0.0 if view.is_image else 0.8)), sum(heights) + 0.5))
    panels = list(figure.subplots(rows, 1, squeeze=False, height_ratios=heights)[:, 0])
    view.draw(panels[0], view.groups[0], count)
    weights = [
        f"{name}\n{weight:.0%}"
        for name, weight in zip(result.names[:count], result.weights[:count].tolist(), strict=True)
    ]
    panels[0].set_title("means E[x|class], and the weight of each class", fontsize=9, loc="left")
    if not view.is_image:
        _scale(figure, panels[0], "standard deviations\nfrom the mean")
    panels[0].set_xticks(view.centres(panels[0], count), weights, fontsize=8)
    panels[0].tick_params(axis="x", length=0)
    if result.spreads is not None:
        spreads = result.spreads[:count]
        panels[1].set_title("standard deviation of x in each class", fontsize=9, loc="left")
        if data.shape is not None:
            draw_images(panels[1], spreads / spreads.max(), data.shape, count)
            panels[1].set_xlabel(f"white 0, black {float(spreads.max()):.2f}", fontsize=8)
        else:
            relative = spreads / data.train[:].cpu().std(0).clamp(min=1e-12)
            panels[1].imshow(relative.mT.numpy(), cmap="cividis", aspect="auto", vmin=0)
            _scale(figure, panels[1], "standard deviations\nof the column")
            panels[1].set(xticks=[])
            names = data.column_names or tuple(f"column {j}" for j in range(data.dim))
            if len(names) <= 40:
                panels[1].set_yticks(range(len(names)), names, fontsize=7)
    if result.responsibilities is not None:
        shown = result.responsibilities[:POINTS, :count]
        axes = panels[-1]
        axes.imshow(shown.mT.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_yticks(range(count), result.names[:count], fontsize=7)
        axes.set(xticks=[], xlabel=f"{len(shown)} held-out points")
        axes.set_title("responsibilities p(class|x)", fontsize=9, loc="left")
        _scale(figure, axes, "probability")
    return figure


def _scale(figure: Figure, axes: Axes, label: str) -> None:
    """What the colours of a heat map mean, beside it."""
    bar = figure.colorbar(axes.images[0], ax=axes, pad=0.01)
    bar.ax.tick_params(labelsize=7)
    bar.set_label(label, fontsize=7)


def _directions(result: Components, data: Data) -> Figure:
    count = min(len(result.means), MAX_PARTS)
    names = [
        f"{name}\n{share:.0%}"
        for name, share in zip(result.names[:count], result.weights[:count].tolist(), strict=True)
    ]
    if data.shape is not None:
        view = View(data, result.centre[None])
        width, height = view.size(count + 1)
        figure = new_figure((max(4.0, width + 0.4), height + 0.75))
        left, right = figure.subplots(1, 2, width_ratios=[1, count])
        view.draw(left, view.groups[0], 1)
        left.set_title("E[x|z = 0]", fontsize=9)
        draw_images(right, result.means[:count], data.shape, count, signed_limit=float(result.means.abs().max()))
        right.set_title("directions E[x|z = e$_j$] − E[x|z = 0]: orange lower, purple higher", fontsize=9)
        right.set_xticks(view.centres(right, count), names, fontsize=8)
        right.tick_params(axis="x", length=0)
        return figure
    columns = data.column_names or tuple(f"column {j}" for j in range(data.dim))
    relative = result.means[:count] / data.train[:].cpu().std(0).clamp(min=1e-12)
    figure = new_figure((1.8 + max(2.4, 0.75 * count), 0.9 + 0.22 * len(columns)))
    axes = figure.subplots()
    limit = float(relative.abs().max())
    axes.imshow(relative.mT.numpy(), cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    axes.set_yticks(range(len(columns)), columns, fontsize=7)
    axes.set_xticks(range(count), names, fontsize=8)
    if len(columns) * count <= 200:
        for d, row in enumerate(relative.mT.tolist()):
            for j, value in enumerate(row):
                colour = "white" if abs(value) > 0.6 * limit else "black"
                axes.text(j, d, number(value), ha="center", va="center", fontsize=7, color=colour)
    _scale(figure, axes, "standard deviations\nof the column")
    axes.set_title("directions E[x|z = e$_j$] − E[x|z = 0]", fontsize=10)
    return figure
