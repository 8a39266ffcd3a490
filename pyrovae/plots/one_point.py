"""The figure of one point's posterior: what the guide says of z, beside what the model says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..exploration import DrawnPosterior, GridPosterior
from ..posterior.prior_grid import density_level
from .style import COLOURS, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VISIBLE_NATS = 6.0  # below the highest density: what is less is left outside of the picture
MASSES = (0.99, 0.9, 0.5)  # inside of the contours
LEGEND_INCHES = 0.5  # below the axes: room for their numbers and name


def posterior(result: GridPosterior | DrawnPosterior, axes: Axes | None = None) -> Figure:
    """Draw q(z|x) beside the true posterior p(z|x) of one point.

    Args:
        result: What `exploration.posterior_of_point` returned.
        axes: Where to draw; a new figure if not given.

    Returns:
        The figure: densities over one latent, contours with 50, 90 and 99 % inside over two, draws of more.
    """
    from matplotlib.transforms import ScaledTranslation

    figure, axes = new_axes(axes, (5.4, 4.8))
    if isinstance(result, DrawnPosterior):
        points = {"true posterior p(z|x)": (result.posterior, COLOURS[1]), "guide q(z|x)": (result.guide, COLOURS[0])}
        for name, (draws, colour) in points.items():
            axes.scatter(
                draws[:, 0],
                draws[:, 1],
                s=8,
                color=colour,
                alpha=0.4,
                linewidths=0,
                label=f"{name}, {len(draws)} draws",
            )
        axes.set(xlabel=result.names[0], ylabel=result.names[1])
        axes.set_aspect("equal", adjustable="datalim")
    elif len(result.axes) == 1:
        axes.fill_between(result.axes[0], result.log_posterior.exp(), color=COLOURS[1], alpha=0.3, linewidth=0)
        axes.plot(result.axes[0], result.log_posterior.exp(), color=COLOURS[1], label="true posterior p(z|x)")
        axes.plot(result.axes[0], result.log_guide.exp(), color=COLOURS[0], linestyle="--", label="guide q(z|x)")
        axes.set(xlabel=result.names[0], ylabel="density")
        axes.set_ylim(bottom=0)
    else:
        across, up = result.axes
        p, q = result.log_posterior, result.log_guide
        levels = [[density_level(values, result.cell, mass) for mass in MASSES] for values in (p, q)]
        axes.contourf(across, up, p, [*levels[0], float(p.max()) + 1], colors=_shades())
        axes.contour(across, up, q, levels[1], colors=COLOURS[0], linewidths=1.5, linestyles="solid")
        axes.plot([], [], color=COLOURS[1], linewidth=6, alpha=0.6, label="true posterior p(z|x): 50, 90, 99 %")
        axes.plot([], [], color=COLOURS[0], label="guide q(z|x): the same")
        axes.set(xlabel=result.names[0], ylabel=result.names[1])
        seen = (p > p.max() - VISIBLE_NATS) | (q > q.max() - VISIBLE_NATS)
        axes.set_xlim(*across[seen.any(0)][[0, -1]].tolist())
        axes.set_ylim(*up[seen.any(1)][[0, -1]].tolist())
        axes.set_aspect("equal")
    if isinstance(result, GridPosterior):
        axes.set_title(
            f"point {result.row}: KL(q ‖ p) = {max(result.kl, 0.0):.3f} nats, its gap between log p(x) and the ELBO",
            fontsize=9,
        )
    else:
        axes.set_title(f"point {result.row}: two of {result.size} latents", fontsize=9)
    below = axes.transAxes + ScaledTranslation(0, -LEGEND_INCHES, figure.dpi_scale_trans)  # however flat the axes are
    axes.legend(
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=below,
        ncols=2,
        fontsize=9,
        markerscale=2,
    )
    return figure


def _shades() -> list[tuple[float, float, float]]:
    """The colour of the true posterior, from light to full."""
    from matplotlib.colors import to_rgb

    full = torch.tensor(to_rgb(COLOURS[1]))
    return [tuple((1 - amount * (1 - full)).tolist()) for amount in (0.25, 0.5, 0.8)]
