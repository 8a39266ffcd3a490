"""What all figures share: colours, line styles, legends, and the note in the corner."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]  # Okabe & Ito: told apart by everyone
LINES = ["-", "--", ":", "-."]  # where there are more curves than colours
CLASS_COLOURS = [  # Paul Tol's muted scheme, for many classes
    *("#332288", "#88CCEE", "#117733", "#DDCC77", "#CC6677", "#882255", "#44AA99", "#999933", "#AA4499", "#888888"),
]
CLASS_MARKERS = ["o", "s", "^", "D", "v"]  # where there are more classes than colours
LEGEND_CURVES = 4  # curves below which a legend finds room
RELIABLE = "reliable"  # as the `reliability` of a result has it
NAME_LENGTH = 36
NOTE_HEIGHT = 0.025  # of the figure, or more where it is low


def line_style(place: int) -> dict[str, Any]:
    """The colour and the kind of line of the model at this place: the same in all figures of a comparison."""
    turn, colour = divmod(place, len(COLOURS))
    return {"color": COLOURS[colour], "linestyle": LINES[turn % len(LINES)]}


def mark_fill(reliable: bool) -> dict[str, Any]:
    """How the mark of a number is filled: hollow where it is no more than a lower bound."""
    return {} if reliable else {"markerfacecolor": "white"}


def short_name(name: str) -> str:
    """A name as a label, with its middle left out where it is long: the path of a run leaves no room for the axes."""
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH // 2]}…{name[-NAME_LENGTH // 2 :]}"


def new_figure(size: tuple[float, float]) -> Figure:
    """A figure that is drawn to files only: no window is opened, and none has to be closed."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def new_axes(axes: Axes | None, size: tuple[float, float] = (6.4, 4.0)) -> tuple[Figure, Axes]:
    """The axes that are given, or those of a new figure, without a frame above and to the right; and their figure."""
    axes = new_figure(size).subplots() if axes is None else axes
    axes.spines[["top", "right"]].set_visible(False)
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure, axes


def note(figure: Figure, parts: Iterable[str]) -> Figure:
    """Write where a figure is from into its lower right corner: data, model, seed."""
    height = max(NOTE_HEIGHT, 0.12 / figure.get_figheight())
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, height, 1, 1 - height))  # type: ignore[call-arg]
    figure.text(0.995, 0.004, " · ".join(parts), ha="right", va="bottom", fontsize=7, color="0.4")
    return figure


def legend(axes: Axes, count: int) -> None:
    """Below the curves, or beside them where there are many: it hides none."""
    if count <= LEGEND_CURVES:
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=9)
    else:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def number(value: float, digits: int = 2) -> str:
    """A number with the minus sign that axes have, and 0 without one."""
    return f"{value:z.{digits}f}".replace("-", "−")


def whole_ticks(axis: Axis) -> None:
    """Ticks at whole numbers: an epoch and a point have no half."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def zoom(axes: Axes, shown: Sequence[float], margin: float) -> None:
    """Limit the heights to those that are `shown`, with a margin as a share of them, and say it where curves go on below."""
    low, high = min(shown), max(shown)
    room = (high - low) or abs(high) or 1.0
    axes.set_ylim(low - margin * room, high + margin * room)
    heights = [float(value) for line in axes.lines for value in np.asarray(line.get_ydata(), dtype=float)]
    lowest = min(filter(math.isfinite, heights), default=low)
    if lowest < low - margin * room:
        text = f"The first epochs lie below, from {lowest:.4g}".replace("-", "−")
        axes.annotate(text, (0.98, 0.02), xycoords="axes fraction", ha="right", fontsize=8, color="0.35")
