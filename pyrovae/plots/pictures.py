"""Rows of x as something to look at: images, or a heat map of columns where x is no image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..data.datasets import Data

IMAGE_PIXELS = 28  # an image of fewer pixels is enlarged, so that the frame about it stays thin
IMAGE_INCHES = 0.62
MAX_NAMES = 40  # columns of a table whose names find room
DIVERGING = "PuOr"  # for values about 0
FRAME = "0.75"  # about each image, so that a white one can be seen


class View:
    """How rows of x are shown: as grey images, or as columns of a heat map in units of each column's standard deviation.

    Args:
        data: The data set, which knows the shape of an image, the transform and the names of columns.
        groups: All x that the figure shows, (n, D) each, so that they are drawn on one scale.
    """

    def __init__(self, data: Data, *groups: Tensor):
        self.data, self.shape = data, data.shape
        sizes = [len(group) for group in groups]
        every = torch.cat([group.reshape(-1, data.dim).cpu() for group in groups])
        if self.shape is None:
            train = data.train[:].cpu()
            every = (every - train.mean(0)) / train.std(0).clamp(min=1e-12)
        else:
            every = data.transform.grey(every)
        self.groups = every.split(sizes)  # what is drawn of each group

    @property
    def is_image(self) -> bool:
        return self.shape is not None

    def size(self, columns: int, rows: int = 1) -> tuple[float, float]:
        """Inches that so many pictures beside and below each other need."""
        if self.shape is not None:
            longer = max(self.shape[:2])
            return columns * IMAGE_INCHES * self.shape[1] / longer, rows * IMAGE_INCHES * self.shape[0] / longer
        return columns * 0.42, rows * max(0.8, 0.17 * self.data.dim)

    def draw(self, axes: Axes, values: Tensor, columns: int, *, signed: bool = False) -> None:
        """Draw values (n, D), what `groups` has, `columns` to a row. `signed`: values about 0, in two colours."""
        if self.shape is not None:
            limit = float(values.abs().max()) if signed else 1.0
            draw_images(axes, values, self.shape, columns, signed_limit=limit if signed else None)
            return
        limit = max(2.0, float(values.nan_to_num(0.0).abs().max()))
        axes.imshow(values.mT.numpy(), cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
        names = self.data.column_names or tuple(f"column {j}" for j in range(self.data.dim))
        axes.set(xticks=[])
        if len(names) <= MAX_NAMES:
            axes.set_yticks(range(len(names)), names, fontsize=7)
        else:
            axes.set(yticks=[], ylabel=f"{len(names)} columns")

    def centres(self, axes: Axes, columns: int) -> list[float]:
        """Where the middles of the columns are, of what `draw` has drawn."""
        if self.shape is None:
            return [float(k) for k in range(columns)]
        return cell_centres(columns, (_drawn_shape(axes)[1] - 1) // columns)

    def row_centres(self, axes: Axes, rows: int) -> list[float]:
        """The same of rows of images."""
        return cell_centres(rows, (_drawn_shape(axes)[0] - 1) // rows)


def _drawn_shape(axes: Axes) -> tuple[int, ...]:
    pixels = axes.images[0].get_array()
    assert pixels is not None
    return pixels.shape


def grid(images: Tensor, shape: tuple[int, ...], columns: int) -> tuple[Tensor, tuple[int, int]]:
    """Images (n, D) as one picture, `columns` to a row, NaN on the lines about each; and the height and width of a cell.

    Image k begins at row 1 + k // columns · height and column 1 + k % columns · width of the picture. In colours it has
    a third dimension, of 3.
    """
    scale = max(1, -(-IMAGE_PIXELS // max(shape[:2])))
    height, width = (scale * size for size in shape[:2])
    rows = -(-len(images) // columns)
    page = torch.zeros(rows * (height + 1) + 1, columns * (width + 1) + 1, *shape[2:])
    for number, image in enumerate(images):
        top, left = 1 + number // columns * (height + 1), 1 + number % columns * (width + 1)
        page[top - 1 : top + height + 1, left - 1 : left + width + 1] = torch.nan
        large = image.reshape(shape).repeat_interleave(scale, 0).repeat_interleave(scale, 1)
        page[top : top + height, left : left + width] = large
    return page, (height + 1, width + 1)


def draw_images(
    axes: Axes, images: Tensor, shape: tuple[int, ...], columns: int, *, signed_limit: float | None = None
) -> tuple[int, int]:
    """Draw images (n, D) with a thin frame about each: grey levels in [0, 1], black for 1; or values about 0 up to a limit.

    Images in colours are drawn as they are, and values about 0 as their mean over the colours.

    Returns the height and width of a cell, in units of the axes.
    """
    import matplotlib

    page, cell = grid(images, shape, columns)
    if page.dim() == 3 and signed_limit is None:
        axes.imshow(page.nan_to_num(float(FRAME)).clamp(0, 1).numpy())
    else:
        name, low = ("gray_r", 0.0) if signed_limit is None else (DIVERGING, -signed_limit)
        colours = matplotlib.colormaps[name].with_extremes(bad=FRAME)
        values = page.mean(-1) if page.dim() == 3 else page
        axes.imshow(values.numpy(), cmap=colours, vmin=low, vmax=1.0 if signed_limit is None else signed_limit)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return cell


def cell_centres(count: int, size: int) -> list[float]:
    """Where the middles of so many images are along an axis whose cells have this size."""
    return [1 + k * size + (size - 1) / 2 - 0.5 for k in range(count)]
