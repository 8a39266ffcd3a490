"""Normal likelihoods, which differ in who knows the variance."""

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..errors import InvalidInputError
from ..nn import inverse_softplus
from .base import Likelihood, checked_floor


class NormalLikelihood(Likelihood):
    """A normal p(x|η) of the columns in their own units."""

    def in_units(self, density: dist.TorchDistribution, centre: Tensor, scale: Tensor) -> dist.TorchDistribution:
        base = density.base_dist
        return dist.Normal(centre + scale * base.loc, scale * base.scale).to_event(1)


class FixedNormal(Likelihood):
    """Real numbers with a known standard deviation: x_d ~ N(η_d, σ²).

    Args:
        sigma: σ, a standard deviation and not a variance, in the units of x.
    """

    sigma: Tensor

    def __init__(self, sigma: float):
        super().__init__()
        if not 0 < sigma < math.inf:
            raise InvalidInputError(f"sigma={sigma} is no standard deviation: give a number above 0.")
        self.register_buffer("sigma", torch.tensor(float(sigma)))

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        return dist.Normal(eta, self.sigma.to(eta)).to_event(1)

    def in_units(self, density: dist.TorchDistribution, centre: Tensor, scale: Tensor) -> dist.TorchDistribution:
        return dist.Normal(centre + scale * density.base_dist.loc, density.base_dist.scale).to_event(1)

    def initial_outputs(self, mean: Tensor, variance: Tensor) -> Tensor:
        return mean

    def m_step(self, mean: Tensor, variance: Tensor, fraction: Tensor) -> Tensor:
        return mean


class Normal(NormalLikelihood):
    """Real numbers: x_d ~ N(η_d, σ²), with one learned σ² = floor + softplus(ρ) for all pixels.

    At the optimum σ² is the mean squared error. In a model that standardises, x is in the units of its columns.

    Args:
        floor: The smallest σ². It keeps the density finite where pixels hardly vary.

    References:
        Rybkin, Daniilidis & Levine (2021). Simple and effective VAE training with calibrated decoders.
    """

    def __init__(self, floor: float = 1e-4):
        super().__init__()
        self.floor = checked_floor(floor)
        self.rho = nn.Parameter(torch.tensor(math.log(math.expm1(0.1))))

    @property
    def variance(self) -> Tensor:
        return self.floor + softplus(self.rho)

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        return dist.Normal(eta, self.variance.sqrt()).to_event(1)

    def initial_outputs(self, mean: Tensor, variance: Tensor) -> Tensor:
        with torch.no_grad():
            self.rho.copy_(inverse_softplus(variance.mean().clamp(min=self.floor)))
        return mean

    def m_step(self, mean: Tensor, variance: Tensor, fraction: Tensor) -> Tensor:
        with torch.no_grad():
            self.rho.copy_(_above(fraction @ variance.mean(dim=-1), self.floor))
        return mean


class PixelNormal(NormalLikelihood):
    """Real numbers: x_d ~ N(μ_d, σ_d²), η = (μ, ρ), σ_d² = floor + softplus(ρ_d): mean and variance of each pixel.

    Args:
        floor: The smallest σ².
    """

    def __init__(self, floor: float = 1e-3):
        super().__init__()
        self.floor = checked_floor(floor)

    def num_outputs(self, dim: int) -> int:
        return 2 * dim

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        loc, rho = eta.chunk(2, dim=-1)
        return dist.Normal(loc, (self.floor + softplus(rho)).sqrt()).to_event(1)

    def initial_outputs(self, mean: Tensor, variance: Tensor) -> Tensor:
        return torch.cat([mean, inverse_softplus(variance.clamp(min=self.floor))], dim=-1)

    def m_step(self, mean: Tensor, variance: Tensor, fraction: Tensor) -> Tensor:
        return torch.cat([mean, _above(variance, self.floor)], dim=-1)


class ImageNormal(NormalLikelihood):
    """Real numbers: x ~ N(μ, σ² I), η = (μ, ρ), σ² = floor + softplus(ρ): one variance for each image.

    Args:
        floor: The smallest σ².
    """

    def __init__(self, floor: float = 1e-3):
        super().__init__()
        self.floor = checked_floor(floor)

    def num_outputs(self, dim: int) -> int:
        return dim + 1

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        loc, rho = eta[..., :-1], eta[..., -1:]
        return dist.Normal(loc, (self.floor + softplus(rho)).sqrt()).to_event(1)

    def initial_outputs(self, mean: Tensor, variance: Tensor) -> Tensor:
        shared = variance.mean(dim=-1, keepdim=True).clamp(min=self.floor)
        return torch.cat([mean, inverse_softplus(shared)], dim=-1)

    def m_step(self, mean: Tensor, variance: Tensor, fraction: Tensor) -> Tensor:
        return torch.cat([mean, _above(variance.mean(dim=-1, keepdim=True), self.floor)], dim=-1)


def _above(variance: Tensor, floor: float) -> Tensor:
    """ρ with floor + softplus(ρ) = variance, or a millionth above the floor where that is higher: softplus has no zero."""
    return inverse_softplus((variance - floor).clamp(min=1e-6 * floor))
