"""Contours of p(z) on two latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..posterior.prior_grid import PriorDensity

MASSES = (0.9, 0.5)  # of the prior inside of a contour
KERNEL_DRAWS, KERNEL_GRID = 1000, 50


def prior_contours(axes: Axes, density: PriorDensity | None, draws: Tensor | None, colour: str) -> None:
    """Draw the borders of the smallest regions with 50 and 90 % of the prior.

    Args:
        axes: Where to draw.
        density: p(z) on a grid, where it is known: the contours are then exact, but for the grid.
        draws: Draws of the prior (K, 2), from which the density is smoothed where it is not known; None: nothing is drawn.
        colour: Of the lines.
    """
    if density is not None:
        across, up, values = density.across, density.up, density.log_density
        levels, label = [density.level(mass) for mass in MASSES], "prior p(z): 50 and 90 % of it"
    elif draws is not None:
        across, up, values, levels = _smoothed(draws.double())
        label = "prior p(z): 50 and 90 %, smoothed draws"
    else:
        return
    if levels[0] < levels[1]:
        axes.contour(across, up, values, levels, colors=colour, linewidths=1.2, linestyles="solid")
        axes.plot([], [], color=colour, label=label)


def _smoothed(draws: Tensor) -> tuple[Tensor, Tensor, Tensor, list[float]]:
    from sklearn.neighbors import KernelDensity

    across, up = (torch.linspace(float(v.min()), float(v.max()), KERNEL_GRID, dtype=torch.float64) for v in draws.mT)
    draws = draws[:KERNEL_DRAWS]
    width = draws.std(0)
    bandwidth = 2 * len(draws) ** (-1 / 6)  # twice Scott's: calm lines
    kernel = KernelDensity(bandwidth=bandwidth).fit((draws / width).numpy())
    places = torch.cartesian_prod(across, up) / width
    density = torch.as_tensor(kernel.score_samples(places.numpy())).reshape(KERNEL_GRID, KERNEL_GRID).T
    at_draws = torch.as_tensor(kernel.score_samples((draws / width).numpy()))
    return across, up, density, [float(at_draws.quantile(1 - mass)) for mass in MASSES]
