"""Where annealing chains begin: at the prior, at the guide, or at the mixture fitted to each point's posterior.

A start is a normalised density q₀ over the latents u of each point. Chains move in coordinates v of the start, in which its draws
have about unit spread or `spread`. A fixed linear map leads from v to u, so log q₀ − log p(x, ·) is the same in both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..pair.execution import ModelOrGuide
from ..pair.parameters import is_per_point
from ..pair.sites import density_sites
from ..pair.structure import inspect_pair
from ..posterior.joint_density import Joint
from ..posterior.mixture_fitting import fit_mixture
from ..posterior.mode_mixture import ModeMixture
from ..posterior.mode_search import choose_search
from ..posterior.starts import choose_start_name

SPREAD_DRAWS = 64


class AnnealingStart(Protocol):
    """What annealing asks of a start, for the N points of one chunk."""

    num_temperatures: int  # that suffice from here, where nothing else is asked for
    num_leapfrog_steps: int
    spread: Tensor  # (N, d), about a standard deviation of v
    shortfall: Tensor  # (N,), nats by which log p̂(x) may be too low, as far as the start itself shows

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

    num_temperatures, num_leapfrog_steps = 1000, 10

    def __init__(self, joint: Joint):
        self.draw, self.log_densities = self.of(joint)
        self.spread = _spread(self.draw(SPREAD_DRAWS))  # from draws of its own, so that chains do not know it
        self.shortfall = torch.zeros(len(joint.x), dtype=torch.float64, device=joint.x.device)

    def of(self, joint: Joint) -> tuple[Callable[[int], Tensor], Callable[[Tensor], tuple[Tensor, Tensor]]]:
        """How to draw, and the log-densities."""
        return joint.draw_prior, joint.log_prior_and_p

    def coordinates(self, u: Tensor) -> Tensor:
        return u


class GuideStart(PriorStart):
    """q₀ = q(u|x), the guide's. Raises `InvalidInputError` for a guide without a density at other values than its draws."""

    def of(self, joint: Joint) -> tuple[Callable[[int], Tensor], Callable[[Tensor], tuple[Tensor, Tensor]]]:
        joint.check_no_auxiliary()
        return joint.draw_guide, joint.log_guide_and_p


class MixtureStart:
    """q₀ = the mixture about the modes of p(u|x), without its share of the prior.

    A chain that begins far out, at a draw of the prior, ends there with next to no weight. If a twentieth of the
    chains did so, the weights of the others would be a twentieth too large. A standard error from a few chains would
    not show it.

    v are standard deviations along the axes of the heaviest component, as seen from its centre. In them the posterior has about
    the same width in every direction, so that one step size serves all.
    """

    num_temperatures, num_leapfrog_steps = 100, 4  # the way is short

    def __init__(self, joint: Joint, mixture: ModeMixture, shortfall: Tensor | None = None):
        self.joint, self.mixture = joint, mixture
        heaviest, every = mixture.log_weights.argmax(0), torch.arange(len(joint.x), device=joint.x.device)
        self.centre = mixture.location[heaviest, every]  # (N, d)
        self.axes, self.widths = mixture.axes[heaviest, every], mixture.widths[heaviest, every]
        self.spread = torch.ones_like(self.centre).to(joint.x)
        self.shortfall = torch.zeros_like(self.centre[:, 0]) if shortfall is None else shortfall

    def draw(self, num_draws: int) -> Tensor:
        return self.coordinates(self.mixture.draw(num_draws)).to(self.joint.x)

    def log_densities(self, v: Tensor) -> tuple[Tensor, Tensor]:
        u = self.centre + torch.einsum("nde,sne->snd", self.axes * self.widths.unsqueeze(-2), v.double())
        return self.mixture.log_density(u), self.joint.log_p(u.to(v))

    def coordinates(self, u: Tensor) -> Tensor:
        v = torch.einsum("snd,nde->sne", u.double() - self.centre, self.axes) / self.widths
        return v.to(u)


@dataclass(frozen=True)
class StartBuilder:
    """A start for each chunk of points."""

    name: str  # of `STARTS`
    build: Callable[[Joint], AnnealingStart]
    num_temperatures: int
    num_leapfrog_steps: int


def choose_start(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, start: str | None, seed: int) -> StartBuilder:
    """Return what builds the start that is asked for, by `start_name`. From the posterior, its modes are searched first."""
    name = start_name(model, guide, x, start)
    if name != "posterior":
        kind = PriorStart if name == "prior" else GuideStart
        return StartBuilder(name, kind, kind.num_temperatures, kind.num_leapfrog_steps)
    search = choose_search(model, guide, x, seed)

    def build(joint: Joint) -> MixtureStart:
        modes = search(joint)
        return MixtureStart(joint, fit_mixture(joint, modes)[0], modes.shortfall)

    return StartBuilder(name, build, MixtureStart.num_temperatures, MixtureStart.num_leapfrog_steps)


def start_name(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, start: str | None) -> str:
    """As `choose_start_name`; and where `start` is None, the prior for a guide without a density at other values than its draws.

    Raises:
        InvalidInputError: There is no such start for this pair.
    """
    name = choose_start_name(model, guide, x, start)
    if name == "guide" and start is None:
        structure = inspect_pair(model, guide, x if is_per_point(guide, x) else x[:1024])
        helpers = any(site["infer"].get("is_auxiliary") for site in density_sites(structure.guide_trace))
        return "prior" if helpers or structure.deterministic_guide else "guide"
    return name


def _spread(draws: Tensor) -> Tensor:
    """Return half the width of the middle two thirds of draws (S, N, d) → (N, d).

    That is about a standard deviation, which heavy tails do not change.
    """
    ordered, outside = draws.sort(dim=0).values, len(draws) // 6
    width = 0.5 * (ordered[-1 - outside] - ordered[outside])
    return torch.where(torch.isfinite(width) & (width > 0), width, 1.0)
