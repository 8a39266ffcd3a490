"""Priors that are mixtures of Gaussians."""

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..errors import InvalidInputError
from ..guides import Amortised, MixtureNormal, positive
from ..missing import fill_missing, has_missing
from ..nn import column_moments, column_units
from .base import RHO_AT_1, Prior, check_count


class MixtureOfGaussians(Prior):
    """Prior p(z) = Σ_j π_j N(μ_j, diag σ_j²). All parameters are learned. It begins near N(0, I).

    Args:
        count: How many Gaussians are mixed.

    References:
        Dilokthanakul et al. (2016). Deep unsupervised clustering with Gaussian mixture variational autoencoders.
    """

    def __init__(self, count: int = 10):
        super().__init__()
        self.count = check_count(self, "count", count)

    def prepare(self, dim: int, latent: int, guide: Any) -> None:
        self.logits = nn.Parameter(torch.zeros(self.count))
        self.loc = nn.Parameter(0.5 * torch.randn(self.count, latent))  # equal components would stay equal
        self.rho = nn.Parameter(torch.full((self.count, latent), math.log(math.expm1(0.75**0.5)) - RHO_AT_1))

    def forward(self, x: Tensor) -> dist.TorchDistribution:
        return MixtureNormal(self.loc, positive(self.rho), self.logits)


class VampPrior(Prior):
    """Prior p(z) = (1/C) Σ_c q(z|u_c): the guide's posteriors at C learned pseudo-inputs u_c.

    The best p(z) for a guide is its mean over the data, (1/N) Σ_n q(z|x_n). This prior is that mean with fewer
    points. The pseudo-inputs begin at random points of the data. Model and guide share the encoder, so a step has one
    more pass through it.

    Args:
        count: C, the number of pseudo-inputs.

    References:
        Tomczak & Welling (2018). VAE with a VampPrior.
    """

    unit: Tensor

    def __init__(self, count: int = 50):
        super().__init__()
        self.count = check_count(self, "count", count)

    def prepare(self, dim: int, latent: int, guide: Any) -> None:
        if not isinstance(guide, Amortised):
            raise InvalidInputError(
                f"VampPrior is made of q(z|u), and {getattr(type(guide), '__name__', guide)} has no encoder for a new u: take a guide "
                "such as MeanField, or another prior."
            )
        self._guide = (guide,)  # not a part of the model: its parameters keep the guide's names
        self.inputs = nn.Parameter(torch.rand(self.count, dim))
        self.register_buffer("unit", torch.ones(dim))

    def parameter_units(self) -> list[tuple[Tensor, Tensor]]:
        """Pseudo-inputs have the units of x."""
        return [(self.inputs, self.unit)]

    def start(self, x: Tensor) -> None:
        with torch.no_grad():
            self.unit.copy_(column_units(x)[1])
            points = x[torch.randint(len(x), (self.count,), device=x.device)]
            self.inputs.copy_(fill_missing(points, column_moments(x)[0].to(x)) if has_missing(x) else points)

    def forward(self, x: Tensor) -> dist.TorchDistribution:
        guide = self._guide[0]
        components = guide.distribution(guide.encoder(self.inputs))
        return dist.MixtureSameFamily(dist.Categorical(logits=x.new_zeros(self.count)), components)
