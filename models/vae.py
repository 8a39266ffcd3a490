"""Variational autoencoder: z ~ N(0, I), x|z ~ p(x | η = decoder(z)).

No exact log p(x): the gap between ELBO and log p(x) is what the evidence measures (Kingma & Welling 2014).
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pyrovae

RECIPE = {"steps": 3600, "batch_size": 128, "lr": 2e-3}


class VAE(pyrovae.Module):
    """z ~ N(0, I_k), x|z ~ likelihood(decoder(z) + offset)."""

    initialised: Tensor

    def __init__(self, decoder: nn.Module, latent: int, dim: int, likelihood: pyrovae.Likelihood):
        """`decoder` is any module from (B, latent) to (B, likelihood.outputs(dim))."""
        super().__init__()
        self.decoder, self.likelihood, self.latent = decoder, likelihood, latent
        self.offset = nn.Parameter(torch.zeros(likelihood.outputs(dim)))
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent), 1.0).to_event(1))
            pyro.sample("x", self.decode(z), obs=x)

    def decode(self, z: Tensor) -> dist.TorchDistribution:
        """p(x|z): (*batch, k) → a distribution with batch_shape `batch`."""
        return self.likelihood(pyrovae.over_batch(self.decoder, z) + self.offset)

    def initialise(self, x: Tensor) -> None:
        """Begin at the data's moments: before it has learned anything, the decoder answers with the mean image."""
        with torch.no_grad():
            self.offset.copy_(self.likelihood.start(x.mean(dim=0), x.var(dim=0, correction=0)))
            self.initialised.fill_(True)


def pair(
    dim: int,
    latent: int = 16,
    hidden: tuple[int, ...] = (200, 200),
    likelihood: pyrovae.Likelihood | None = None,
    guide: type = pyrovae.MeanField,
) -> tuple[VAE, nn.Module]:
    """Networks of `hidden` tanh layers. `likelihood` is Bernoulli(), Normal(), FixedNormal(σ) or PixelNormal(), which is the
    default for x that has a density; `guide` is MeanField or FullCovariance."""
    likelihood = likelihood or pyrovae.PixelNormal()
    decoder = pyrovae.MLP(latent, *reversed(hidden), likelihood.outputs(dim))
    return VAE(decoder, latent, dim, likelihood), guide(dim, latent, hidden)
