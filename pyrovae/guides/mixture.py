"""A mixture of Gaussians as q(z|x), for posteriors with several modes."""

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
from torch import Tensor

from ..distributions.mixture_normal import MixtureNormal
from .amortised import Amortised, positive


class Mixture(Amortised):
    """q(z|x) = Σ_j π_j(x) N(μ_j(x), diag σ_j²(x)), its draws reparameterised (`MixtureNormal`)."""

    def __init__(self, dim: int, latent: int, hidden: Sequence[int] = (200, 200), *, count: int = 4, **given: Any):
        super().__init__(dim, latent, hidden, count=count, **given)

    @staticmethod
    def outputs(latent: int, count: int = 4, **sizes: int) -> int:
        return count * (1 + 2 * latent)

    def posterior(self, outputs: Tensor) -> dist.TorchDistribution:
        count = self.sizes["count"]
        logits, loc, rho = outputs.split([count, count * self.latent, count * self.latent], dim=-1)
        return MixtureNormal(loc.unflatten(-1, (count, -1)), positive(rho.unflatten(-1, (count, -1))), logits)
