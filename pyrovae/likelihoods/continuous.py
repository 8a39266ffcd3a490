"""Likelihoods with a density that are not normal."""

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..distributions.continuous import Tilted
from ..nn import inverse_softplus
from .base import Likelihood, checked_floor


class ContinuousBernoulli(Likelihood):
    """Grey pixels: p(x_d) = C(λ) λ^x (1 − λ)^{1−x} on [0, 1], λ = sigmoid(η_d).

    A Bernoulli of grey pixels lacks C, so it is not a density.

    References:
        Loaiza-Ganem & Cunningham (2019). The continuous Bernoulli: fixing a pervasive error in variational
            autoencoders.
    """

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        return Tilted(logits=eta).to_event(1)

    def initial_outputs(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the η whose mean ½ + (coth(η/2) − 2/η)/2 is the given one, by bisection."""
        low, high = torch.full_like(mean, -100.0), torch.full_like(mean, 100.0)
        wanted = mean.clamp(0.01, 0.99)
        for _ in range(50):
            middle = (low + high) / 2
            half = torch.where(middle.abs() < 1e-3, torch.full_like(middle, 1e-3), middle) / 2
            value = torch.where(middle.abs() < 1e-3, 0.5 + middle / 12, 0.5 + 0.5 * (1 / half.tanh() - 1 / half))
            low, high = torch.where(value < wanted, middle, low), torch.where(value < wanted, high, middle)
        return (low + high) / 2


class StudentT(Likelihood):
    """Real numbers with heavy tails: x_d ~ μ_d + σ_d t_ν, η = (μ, ρ), σ_d² = floor + softplus(ρ_d).

    All pixels share one learned ν > 2. A pixel that is far off costs its logarithm, not its square.

    Args:
        floor: The smallest σ².

    References:
        Takahashi et al. (2018). Student-t variational autoencoder for robust density estimation.
    """

    def __init__(self, floor: float = 1e-3):
        super().__init__()
        self.floor = checked_floor(floor)
        self.raw = nn.Parameter(torch.tensor(math.log(math.expm1(3.0))))

    @property
    def df(self) -> Tensor:
        """The degrees of freedom ν. It begins at 5."""
        return 2 + softplus(self.raw)

    def num_outputs(self, dim: int) -> int:
        return 2 * dim

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        loc, rho = eta.chunk(2, dim=-1)
        return dist.StudentT(self.df.to(eta), loc, (self.floor + softplus(rho)).sqrt()).to_event(1)

    def in_units(self, density: dist.TorchDistribution, centre: Tensor, scale: Tensor) -> dist.TorchDistribution:
        base = density.base_dist
        return dist.StudentT(base.df, centre + scale * base.loc, scale * base.scale).to_event(1)

    def initial_outputs(self, mean: Tensor, variance: Tensor) -> Tensor:
        square = variance * (self.df - 2) / self.df  # a t's variance is σ² ν/(ν − 2)
        return torch.cat([mean, inverse_softplus((square - self.floor).clamp(min=self.floor))], dim=-1)
