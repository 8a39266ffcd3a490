"""Where annealing chains begin: at the prior, at the guide, or at the mixture fitted to each point's posterior.

A start is a normalised density q₀ over the latents u of each point. Chains move in coordinates v of the start, in which its draws
have about unit spread or `spread`. A fixed linear map leads from v to u, so log q₀ − log p(x, ·) is the same in both.
"""

from typing import Protocol

import torch
from torch import Tensor

from ..posterior.joint_density import Joint
from ..posterior.mode_mixture import ModeMixture

SPREAD_DRAWS = 64


class AnnealingStart(Protocol):
    """What annealing asks of a start, for the N points of one chunk."""

    spread: Tensor  # (N, d), about a standard deviation of v

    def draw(self, num_draws: int) -> Tensor:
        """Independent draws v ~ q₀: (num_draws, N, d)."""
        ...

    def log_densities(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """log q₀ and log p(x, ·) at v (draws, N, d), up to one constant that both share: (draws, N) each."""
        ...

    def coordinates(self, u: Tensor) -> Tensor:
        """v of latents u, (draws, N, d)."""
        ...


class PriorStart:
    """q₀ = p(u). Here v is u itself."""

    def __init__(self, joint: Joint):
        self.draw, self.log_densities = joint.draw_prior, joint.log_prior_and_p
        self.spread = _spread(self.draw(SPREAD_DRAWS))  # from draws of its own, so that chains do not know it

    def coordinates(self, u: Tensor) -> Tensor:
        return u


class GuideStart(PriorStart):
    """q₀ = q(u|x), the guide's. Raises `InvalidInputError` for a guide without a density at other values than its draws."""

    def __init__(self, joint: Joint):
        joint.check_no_auxiliary()
        self.draw, self.log_densities = joint.draw_guide, joint.log_guide_and_p
        self.spread = _spread(self.draw(SPREAD_DRAWS))


class MixtureStart:
    """q₀ = the mixture about the modes of p(u|x), without its share of the prior.

    A chain that begins far out, at a draw of the prior, ends there with next to no weight. A twentieth of such chains would make
    the others' weights a twentieth too large, and a standard error from a few chains would not show it.

    v are standard deviations along the axes of the heaviest component, as seen from its centre. In them the posterior has about
    the same width in every direction, so that one step size serves all.
    """

    def __init__(self, joint: Joint, mixture: ModeMixture):
        self.joint, self.mixture = joint, mixture
        heaviest, every = mixture.log_weights.argmax(0), torch.arange(len(joint.x), device=joint.x.device)
        self.centre = mixture.location[heaviest, every]  # (N, d)
        self.axes, self.widths = mixture.axes[heaviest, every], mixture.widths[heaviest, every]
        self.spread = torch.ones_like(self.centre).to(joint.x)

    def draw(self, num_draws: int) -> Tensor:
        return self.coordinates(self.mixture.draw(num_draws)).to(self.joint.x)

    def log_densities(self, v: Tensor) -> tuple[Tensor, Tensor]:
        u = self.centre + torch.einsum("nde,sne->snd", self.axes * self.widths.unsqueeze(-2), v.double())
        return self.mixture.log_density(u), self.joint.log_p(u.to(v))

    def coordinates(self, u: Tensor) -> Tensor:
        v = torch.einsum("snd,nde->sne", u.double() - self.centre, self.axes) / self.widths
        return v.to(u)


def _spread(draws: Tensor) -> Tensor:
    """Half the width of the middle two thirds of draws (S, N, d) → (N, d): about a standard deviation, which heavy tails do not
    move."""
    ordered, outside = draws.sort(dim=0).values, len(draws) // 6
    width = 0.5 * (ordered[-1 - outside] - ordered[outside])
    return torch.where(torch.isfinite(width) & (width > 0), width, 1.0)
