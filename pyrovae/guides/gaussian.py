"""Gaussian q(z|x): factorised, with a covariance of low or of full rank, and linear in x."""

from collections.abc import Callable, Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..nn import EncoderMLP, Module
from .amortised import Amortised, lower, positive


class MeanField(Amortised):
    """q(z|x) = N(μ(x), diag σ²(x)). Kingma & Welling 2014, appendix C.

    A subclass that reads another number than `positive` does sets `scale`, the function of it that is σ.
    """

    scale: Callable[[Tensor], Tensor] = staticmethod(positive)

    @staticmethod
    def num_outputs(latent: int, **sizes: int) -> int:
        return 2 * latent

    def distribution(self, outputs: Tensor) -> dist.TorchDistribution:
        loc, rho = outputs.chunk(2, dim=-1)
        return dist.Normal(loc, self.scale(rho)).to_event(1)


class FullCovariance(Amortised):
    """q(z|x) = N(μ(x), L(x) L(x)ᵀ), L lower triangular with a positive diagonal."""

    @staticmethod
    def num_outputs(latent: int, **sizes: int) -> int:
        return latent + latent * (latent + 1) // 2

    def distribution(self, outputs: Tensor) -> dist.TorchDistribution:
        return dist.MultivariateNormal(
            outputs[..., : self.latent], scale_tril=lower(outputs[..., self.latent :], self.latent)
        )


class LowRank(Amortised):
    """q(z|x) = N(μ(x), diag σ²(x) + F(x) F(x)ᵀ), F of `rank` columns: k(rank + 2) numbers where `FullCovariance` has k(k + 3)/2
    (Ong, Nott & Smith 2018)."""

    def __init__(self, dim: int, latent: int, hidden: Sequence[int] = (200, 200), *, rank: int = 2, **given: Any):
        super().__init__(dim, latent, hidden, rank=rank, **given)

    @staticmethod
    def num_outputs(latent: int, rank: int = 2, **sizes: int) -> int:
        return latent * (rank + 2)

    def distribution(self, outputs: Tensor) -> dist.TorchDistribution:
        loc, rho, factor = outputs.split([self.latent, self.latent, self.latent * self.sizes["rank"]], dim=-1)
        factor = factor.unflatten(-1, (self.latent, -1))
        return dist.LowRankMultivariateNormal(loc, factor, positive(rho).square())


class LinearGaussian(Module):
    """q(z|x) = N(Ax + b, L Lᵀ): the family that holds the posterior of every linear Gaussian model."""

    def __init__(self, dim: int, latent: int, *, site: str = "z"):
        super().__init__()
        self.latent, self.site = latent, site
        self.encoder = EncoderMLP(dim, latent)
        self.packed = nn.Parameter(torch.zeros(latent * (latent + 1) // 2))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample(self.site, dist.MultivariateNormal(self.encoder(x), scale_tril=lower(self.packed, self.latent)))
