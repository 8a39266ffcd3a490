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
    """Guide q(z|x) = N(μ(x), diag σ²(x)): a Gaussian with independent components.

    Arguments are those of `Amortised`. A subclass with another map from outputs to σ than `positive` sets `scale`.

    References:
        Kingma & Welling (2014). Auto-encoding variational Bayes. Appendix C.
    """

    scale: Callable[[Tensor], Tensor] = staticmethod(positive)

    @staticmethod
    def num_outputs(latent: int, **sizes: int) -> int:
        return 2 * latent

    def distribution(self, outputs: Tensor) -> dist.TorchDistribution:
        loc, rho = outputs.chunk(2, dim=-1)
        return dist.Normal(loc, self.scale(rho)).to_event(1)


class FullCovariance(Amortised):
    """Guide q(z|x) = N(μ(x), L(x) L(x)ᵀ), where L is lower triangular with a positive diagonal.

    Arguments are those of `Amortised`.
    """

    @staticmethod
    def num_outputs(latent: int, **sizes: int) -> int:
        return latent + latent * (latent + 1) // 2

    def distribution(self, outputs: Tensor) -> dist.TorchDistribution:
        return dist.MultivariateNormal(
            outputs[..., : self.latent], scale_tril=lower(outputs[..., self.latent :], self.latent)
        )


class LowRank(Amortised):
    """Guide q(z|x) = N(μ(x), diag σ²(x) + F(x) F(x)ᵀ), where F has `rank` columns.

    The encoder returns k(rank + 2) numbers, where `FullCovariance` needs k(k + 3)/2.

    Args:
        dim: D, the size of one point x.
        latent: k, the size of z.
        hidden: Widths of the hidden layers of the encoder.
        rank: Columns of F.
        **given: As for `Amortised`.

    References:
        Ong, Nott & Smith (2018). Gaussian variational approximation with a factor covariance structure.
    """

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
    """Guide q(z|x) = N(Ax + b, L Lᵀ), which contains the posterior of every linear Gaussian model.

    Args:
        dim: D, the size of one point x.
        latent: k, the size of z.
        site: The name of the latent.
    """

    def __init__(self, dim: int, latent: int, *, site: str = "z"):
        super().__init__()
        self.latent, self.site = latent, site
        self.encoder = EncoderMLP(dim, latent)
        self.packed = nn.Parameter(torch.zeros(latent * (latent + 1) // 2))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample(self.site, dist.MultivariateNormal(self.encoder(x), scale_tril=lower(self.packed, self.latent)))
