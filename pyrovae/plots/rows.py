"""Figures that are rows of x: reconstructions, samples, paths between points, analogies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..exploration import Analogy, Generated, Interpolation, Reconstruction
from .pictures import View
from .style import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..data.datasets import Data

LABEL_INCHES = 1.9  # beside the rows


def reconstructions(result: Reconstruction, data: Data, count: int = 12) -> Figure:
    """Draw points, their reconstructions and the differences, from the point with the smallest error to that with the largest.

    Args:
        result: What `exploration.reconstruct` returned.
        data: The data set of the points.
        count: How many points, evenly spaced in the order of their errors.

    Returns:
        The figure: rows of x, x̂ and x − x̂; the mean squared error of each point is below its column.
    """
    rows = error_spaced(result, count)
    view = View(data, result.x[rows], result.reconstructed[rows])
    x, reconstructed = view.groups
    figure, axes = _rows(view, 3, len(rows), 0.7)
    for place, (name, values) in enumerate({"data x": x, "reconstruction x̂": reconstructed}.items()):
        view.draw(axes[place], values, len(rows))
        _label(axes[place], name, view)
    view.draw(axes[2], x - reconstructed, len(rows), signed=True)
    _label(axes[2], "difference x − x̂\npurple: x̂ too low", view)
    errors = result.squared_error[rows].tolist()
    _below(axes[2], [f"{error:.3f}" for error in errors], view)
    each = "pixel" if view.is_image else "column"
    axes[2].set_xlabel(
        f"squared error per {each}; of all {len(result.x)} points {result.mean_squared_error:.4f}, "
        f"explained variance {result.explained_variance:.1%}"
    )
    return figure


def error_spaced(result: Reconstruction, count: int) -> list[int]:
    """The rows of some points, evenly spaced in the order of their errors."""
    order = result.squared_error.argsort()
    return order[torch.linspace(0, len(order) - 1, min(count, len(order))).long()].tolist()


def samples(result: Generated, data: Data, count: int = 12) -> Figure:
    """Draw held-out data, the mean E[x|z] of each sample, and the sample itself.

    Args:
        result: What `exploration.generate` returned.
        data: The data set.
        count: Columns.

    Returns:
        The figure. A likelihood without a mean has no row of means.
    """
    groups = {"held-out data": data.test[:count].cpu()}
    if result.means is not None:
        groups["means E[x|z]"] = result.means[:count]
    groups["draws x ~ p(x|z)"] = result.draws[:count]
    view = View(data, *groups.values())
    figure, axes = _rows(view, len(groups), count)
    for place, (name, values) in enumerate(zip(groups, view.groups, strict=True)):
        view.draw(axes[place], values, count)
        _label(axes[place], name, view)
    return figure


def interpolation(result: Interpolation, data: Data) -> Figure:
    """Draw the two paths between the encodings of two points, and the points at the ends.

    Args:
        result: What `exploration.interpolate` returned.
        data: The data set of the points.

    Returns:
        The figure: the straight line above, the decoder's shortest path below, the length of each in its label.
    """
    first, last = result.ends[:1], result.ends[1:]
    view = View(data, *(torch.cat([first, path, last]) for path in (result.decoded_straight, result.decoded_shortest)))
    columns = len(view.groups[0])
    figure, axes = _rows(view, 2, columns, 0.3)
    names = ("straight line", "shortest path")
    for place, (name, length) in enumerate(zip(names, result.lengths, strict=True)):
        view.draw(axes[place], view.groups[place], columns)
        _label(axes[place], f"{name}\nlength {length:.2f}", view)
    heads = {0: "x$_a$", 1: "E[x|z$_a$]", columns - 2: "E[x|z$_b$]", columns - 1: "x$_b$"}
    centres = view.centres(axes[0], columns)
    axes[0].xaxis.tick_top()
    axes[0].set_xticks([centres[k] for k in heads], list(heads.values()), fontsize=8)
    axes[0].tick_params(axis="x", length=0)
    return figure


def analogy(result: Analogy, data: Data) -> Figure:
    """Draw A : B = C : D, with D decoded from z_C + z_B − z_A.

    Args:
        result: What `exploration.analogy` returned.
        data: The data set of the points.

    Returns:
        The figure: the points above, E[x|z] below; D has no point.
    """
    view = View(data, result.x, result.decoded)
    points, decoded = view.groups
    figure, axes = _rows(view, 2, 4, 0.5)
    view.draw(axes[0], torch.cat([points, torch.full_like(points[:1], torch.nan)]) if not view.is_image else points, 4)
    view.draw(axes[1], decoded, 4)
    if view.is_image:
        _label(axes[0], "points", view)
        _label(axes[1], "E[x|z]", view)
    else:
        axes[0].set_ylabel("points", fontsize=9)
        axes[1].set_ylabel("E[x|z]", fontsize=9)
    centres = view.centres(axes[0], 4)
    axes[0].xaxis.tick_top()
    axes[0].set_xticks(centres, ["A", "B", "C", "D"], fontsize=9)
    axes[0].tick_params(axis="x", length=0)
    axes[0].set_title("A is to B as C is to D = C + B − A", fontsize=10, pad=18 if view.is_image else 30)
    return figure


def _rows(view: View, rows: int, columns: int, more: float = 0.0) -> tuple[Figure, list[Axes]]:
    """A figure for rows of so many pictures, with inches for the labels beside them, and `more` of height."""
    width, height = view.size(columns)
    figure = new_figure((max(3.4, width + LABEL_INCHES), rows * (height + 0.12) + more + 0.3))
    return figure, list(figure.subplots(rows, 1, squeeze=False)[:, 0])


def _label(axes: Axes, text: str, view: View) -> None:
    if view.is_image:
        axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9)
        axes.set_anchor("E")
    else:
        scale = "" if "difference" in text else " (purple: above the column's mean, orange: below)"
        axes.set_title(text.replace("\n", ", ") + scale, fontsize=9, loc="left")


def _below(axes: Axes, texts: list[str], view: View) -> None:
    axes.set_xticks(view.centres(axes, len(texts)), texts, fontsize=8)
    axes.tick_params(axis="x", length=0)
