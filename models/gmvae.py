"""Gaussian-mixture VAE: y ~ Cat(π), z|y ~ N(μ_y, diag σ_y²), x|z ~ p(x | decoder(z)), with y summed out exactly.

A cluster y of each x comes with its code z (Dilokthanakul et al. 2016; Jiang et al. 2017): p(y|z) is Bayes' rule. The guide names z
alone. No exact log p(x).
"""

import math

import pyro
import pyro.distributions as dist
import torch
from pyrovae.models.vae import VAE
from torch import Tensor, nn

import pyrovae
from pyrovae.guides import positive

TRAINING_DEFAULTS = {"steps": 3600, "batch_size": 128, "lr": 2e-3}


class GMVAE(VAE):
    """A VAE whose prior's component is a latent of its own, `y`, marked for enumeration and absent from the guide."""

    def __init__(
        self,
        decoder: nn.Module,
        latent: int,
        dim: int,
        likelihood: pyrovae.likelihoods.Likelihood,
        components: int,
        width: float = 0.5,
    ):
        """It begins with means drawn from N(0, I) and σ = `width`."""
        super().__init__(decoder, latent, dim, likelihood)
        if components < 1:
            raise pyrovae.InvalidInputError(f"components={components}: give the number of clusters, at least 1.")
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, latent))
        self.rho = nn.Parameter(torch.full((components, latent), math.log(math.expm1(width)) - math.log(math.expm1(1))))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(logits=self.logits), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(self.loc[y], positive(self.rho)[y]).to_event(1))
            pyro.sample("x", pyrovae.distributions.observed(self.decode(z), x), obs=x)

    def cluster(self, z: Tensor) -> Tensor:
        """p(y|z) = π_y N(z | μ_y, σ_y²) / p(z): (*batch, latent) → (*batch, components)."""
        each = dist.Normal(self.loc, positive(self.rho)).to_event(1).log_prob(z.unsqueeze(-2))
        return (self.logits.log_softmax(-1) + each).softmax(-1)


def pair(
    dim: int,
    latent: int = 16,
    components: int = 10,
    hidden: tuple[int, ...] = (200, 200),
    likelihood: pyrovae.likelihoods.Likelihood | None = None,
    guide: type = pyrovae.guides.MeanField,
) -> tuple[GMVAE, nn.Module]:
    """`components` clusters; the rest as for the vae: `guide` is MeanField, FullCovariance, IAF or any other for R^k."""
    likelihood = likelihood or pyrovae.likelihoods.PixelNormal()
    decoder = pyrovae.MLP(latent, *reversed(hidden), likelihood.num_outputs(dim))
    return GMVAE(decoder, latent, dim, likelihood, components), guide(dim, latent, hidden)
