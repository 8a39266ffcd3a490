"""A mixture of Gaussians as q(z|x), for posteriors with several modes."""

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
from torch import Tensor

from ..distributions.mixture_normal import MixtureNormal
from .amortised import Amortised, positive


class Mixture(Amortised):
    """Guide q(z|x) = Σ_j π_j(x) N(μ_j(x), diag σ_j²(x)), for posteriors with several modes.

    Draws are reparameterised (`distributions.MixtureNormal`).

    Args:
        dim: D, the size of one point x.
        latent: k, the size of z.
        hidden: Widths of the hidden layers of the encoder.
        num_components: Gaussians in the mixture.
        **given: As for `Amortised`.
    """

    def __init__(
        self, dim: int, latent: int, hidden: Sequence[int] = (200, 200), *, num_components: int = 4, **given: Any
    ):
        super().__init__(dim, latent, hidden, num_components=num_components, **given)

    @staticmethod
    def num_outputs(latent: int, num_components: int = 4, **sizes: int) -> int:
        return num_components * (1 + 2 * latent)

    def distribution(self, outputs: Tensor) -> dist.TorchDistribution:
        num_components = self.sizes["num_components"]
        logits, loc, rho = outputs.split(
            [num_components, num_components * self.latent, num_components * self.latent], dim=-1
        )
        return MixtureNormal(
            loc.unflatten(-1, (num_components, -1)), positive(rho.unflatten(-1, (num_components, -1))), logits
        )
