"""A heavy-tailed mixture about the modes of a posterior, to draw from it: Student t at each mode, and a share of the prior."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .batching import over_draws
from .joint_density import Joint
from .modes import Modes

FEW_LATENTS, MANY_LATENTS = 15, 50  # dimensions of u
LOWEST = -1e300  # log-density of a mode where the density is zero or no number
DROP = 2.0  # nats below the mode, at which the width of a component is read: two standard deviations of a normal


class Places(NamedTuple):
    """Draws with the densities there, in double precision, and what share of the draws the prior made."""

    u: Tensor  # (draws, N, d)
    log_prior: Tensor  # (draws, N)
    log_p: Tensor  # (draws, N)
    prior_share: float

    def subset(self, rows: Tensor) -> "Places":
        """The draws of the points that the mask `rows` (N,) names."""
        return Places(self.u[:, rows], self.log_prior[:, rows], self.log_p[:, rows], self.prior_share)


@dataclass(frozen=True)
class ModeMixture:
    """q(u|x_n) = (1 − ε) Σ_m π_m t_ν(u; mode_m, s² S_m) + ε p(u) for each of N points. In double precision.

    S_m has the eigenvectors `axes` and standard deviations `widths`. Components that do not exist have weight 0.
    """

    location: Tensor  # (M, N, d)
    axes: Tensor  # (M, N, d, d), an axis in each column
    widths: Tensor  # (M, N, d)
    log_weights: Tensor  # (M, N)
    degrees_of_freedom: Tensor  # (N,)
    scale: Tensor  # (N,), s
    prior_share: float  # ε

    def weigh(self, joint: Joint, num_draws: int, prior_share: float | None = None) -> tuple[Tensor, Tensor]:
        """Draw u ~ q (num_draws, N, d), and weigh it by log p(x, u) − log q(u|x) (num_draws, N), in double precision.

        The prior's share is rounded to a whole number of draws, and q has the rounded share. So the mean of the weights is p(x)
        (Owen & Zhou 2000). `prior_share` is another share than its own.
        """
        places = self.draw_with_prior(joint, num_draws, prior_share)
        return places.u, places.log_p - self.log_density_with_prior(places)

    def draw_with_prior(self, joint: Joint, num_draws: int, prior_share: float | None = None) -> "Places":
        """Draw u ~ q, and evaluate the pair there."""
        from_prior = round((self.prior_share if prior_share is None else prior_share) * num_draws)
        u = self.draw(num_draws - from_prior).to(joint.x)
        if from_prior:
            u = torch.cat([u, joint.draw_prior(from_prior)])
        log_prior, log_p = over_draws(joint, joint.log_prior_and_p, u)
        return Places(u, log_prior.double(), log_p.double(), from_prior / num_draws)

    def log_density_with_prior(self, places: "Places") -> Tensor:
        """log q at these places: (draws, N)."""
        log_q, share = self.log_density(places.u.double()), places.prior_share
        if not share:
            return log_q
        return torch.logaddexp(log_q + math.log1p(-share), places.log_prior + math.log(share))

    def weigh_independent(self, joint: Joint, num_draws: int) -> Tensor:
        """Log-weights (num_draws, N) of draws that are independent of one another: each is the prior's with probability ε.

        `weigh` fixes how many draws are the prior's. That lowers the variance of a mean, but such draws are not independent.
        Resampling among them and an exact draw of the posterior would change the posterior.
        """
        u = self.draw(num_draws).to(joint.x)
        if self.prior_share:
            from_prior = torch.rand(u.shape[:2], device=u.device) < self.prior_share
            rank = from_prior.cumsum(0)  # of a draw among those of its point that are the prior's, from 1
            prior = joint.draw_prior(max(1, int(rank[-1].max())))
            prior = prior.gather(0, (rank - 1).clamp(min=0).unsqueeze(-1).expand_as(u))
            u = torch.where(from_prior.unsqueeze(-1), prior, u)
        return self.log_weights_at(joint, u)

    def log_weights_at(self, joint: Joint, u: Tensor) -> Tensor:
        """log p(x, u) − log q(u|x) at any u (draws, N, d): (draws, N), in double precision."""
        log_prior, log_p = over_draws(joint, joint.log_prior_and_p, u)
        places = Places(u, log_prior.double(), log_p.double(), self.prior_share)
        return places.log_p - self.log_density_with_prior(places)

    def draw(self, num_draws: int) -> Tensor:
        """u ~ Σ_m π_m t_ν, without the prior: (num_draws, N, d), in double precision."""
        points, d = self.location.shape[1:]
        component = torch.distributions.Categorical(logits=self.log_weights.mT).sample((num_draws,))
        chi_square = torch.distributions.Chi2(self.degrees_of_freedom.float()).sample((num_draws,)).double()
        normal = torch.randn(num_draws, points, d, dtype=torch.float64, device=component.device)
        radius = self.scale * (self.degrees_of_freedom / chi_square).sqrt()
        offset = normal * radius.unsqueeze(-1)
        u = torch.empty_like(offset)
        for mode, (location, axes, widths) in enumerate(zip(self.location, self.axes, self.widths, strict=True)):
            moved = location + torch.einsum("nde,sne->snd", axes * widths.unsqueeze(-2), offset)
            u = torch.where((component == mode).unsqueeze(-1), moved, u)
        return u

    def put(self, rows: Tensor, other: "ModeMixture") -> None:
        """Replace the mixtures of the points `rows` by the other's."""
        for part in ("location", "axes", "widths", "log_weights"):
            getattr(self, part)[:, rows] = getattr(other, part)
        self.degrees_of_freedom[rows], self.scale[rows] = other.degrees_of_freedom, other.scale

    def subset(self, rows: Tensor) -> "ModeMixture":
        """The mixtures of the points that the mask `rows` (N,) names."""
        return ModeMixture(
            self.location[:, rows],
            self.axes[:, rows],
            self.widths[:, rows],
            self.log_weights[:, rows],
            self.degrees_of_freedom[rows],
            self.scale[rows],
            self.prior_share,
        )

    def log_density(self, u: Tensor) -> Tensor:
        """log Σ_m π_m t_ν(u; mode_m, s² S_m), without the prior: (draws, N)."""
        return self.log_terms(u).logsumexp(0)

    def log_terms(self, u: Tensor) -> Tensor:
        """log π_m t_ν(u; mode_m, s² S_m): (M, draws, N)."""
        d, nu = u.shape[-1], self.degrees_of_freedom
        constant = (
            torch.lgamma((nu + d) / 2) - torch.lgamma(nu / 2) - d / 2 * (nu * math.pi).log() - d * self.scale.log()
        )
        terms = []
        for mode, log_weight in enumerate(self.log_weights):
            distance = self.standardised(mode, u).square().sum(-1) / self.scale.square()
            log_t = constant - self.widths[mode].log().sum(-1) - (nu + d) / 2 * torch.log1p(distance / nu)
            terms.append(log_weight + log_t)
        return torch.stack(terms)

    def standardised(self, mode: int, u: Tensor) -> Tensor:
        """u as seen from a mode, along its axes, in its widths: (draws, N, d)."""
        return torch.einsum("snd,nde->sne", u - self.location[mode], self.axes[mode]) / self.widths[mode]


def choose_mixture(joint: Joint, modes: Modes) -> ModeMixture:
    """The mixture to begin with, by the number of latent dimensions.

    A Student t with few degrees of freedom costs little in few dimensions, and most draws in many. So up to 15 dimensions it has
    5, and widths read off the density. With more it has 8, and above 50 it has 30.
    """
    if joint.size <= FEW_LATENTS:
        return mixture_about(joint, modes, degrees_of_freedom=5.0, scale=1.15, prior_share=0.1, stretch=True)
    many = joint.size > MANY_LATENTS
    return mixture_about(
        joint,
        modes,
        degrees_of_freedom=30.0 if many else 8.0,
        scale=1.0 if many else 1.1,
        prior_share=0.05,
    )


def mixture_about(
    joint: Joint,
    modes: Modes,
    *,
    degrees_of_freedom: float = 5.0,
    scale: float = 1.15,
    prior_share: float = 0.1,
    stretch: bool = False,
) -> ModeMixture:
    """Return the mixture about these modes.

    Nine tenths of the weight follow the mass that Laplace's method gives each mode. A tenth is shared equally, so
    that no mode is left with almost none.

    With `stretch`, a width follows the density and not the curvature. It is half the larger distance, to either side,
    at which log p(x, u) has dropped by 2.
    """
    curvature, axes = torch.linalg.eigh(modes.precision)
    widths = curvature.rsqrt()
    if stretch:
        widths = _stretched(joint, modes, axes, widths)
    log_mass = (modes.log_density + widths.log().sum(-1)).nan_to_num(LOWEST, LOWEST, LOWEST)
    log_mass = torch.where(modes.exists, log_mass, -torch.inf)
    share = 0.9 * log_mass.softmax(0) + 0.1 * modes.exists.double() / modes.exists.sum(0)
    every_point = widths.new_ones(widths.shape[1])
    return ModeMixture(
        modes.location,
        axes,
        widths,
        share.log(),
        degrees_of_freedom * every_point,
        scale * every_point,
        prior_share,
    )


def _stretched(joint: Joint, modes: Modes, axes: Tensor, widths: Tensor) -> Tensor:
    """By bisection of the distance's logarithm, for all modes, axes and sides at once."""
    num_modes, points, d = modes.location.shape
    sides = torch.tensor([1.0, -1.0], dtype=torch.float64, device=widths.device)

    def drop(distance: Tensor) -> Tensor:  # (2, M, N, d) → how much lower log p is there
        moved = sides[:, None, None, None, None] * (axes * distance.unsqueeze(-2)).movedim(-1, 2)  # (2, M, axis, N, d)
        u = (modes.location.unsqueeze(1) + moved).reshape(-1, points, d)
        value = joint.log_p(u.to(joint.x)).double().reshape(2, num_modes, d, points).movedim(2, 3)
        return (modes.log_density.unsqueeze(-1) - value).nan_to_num(torch.inf, torch.inf)

    low, high = widths.log().expand(2, -1, -1, -1) - 4, widths.log().expand(2, -1, -1, -1) + 4
    for _ in range(9):
        middle = (low + high) / 2
        far = drop(middle.exp()) > DROP
        low, high = torch.where(far, low, middle), torch.where(far, middle, high)
    return ((low + high) / 2).exp().amax(0) / math.sqrt(2 * DROP)
