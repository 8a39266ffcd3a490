"""Conditional VAE: z ~ N(0, I), x|z,c ~ p(x | decoder(z, c)), c given; what is measured is log p(x|c).

A pair takes one x, so what is given stands in its last columns, for example one-hot labels. Model and guide read
them, and neither scores them (Sohn, Lee & Yan 2015, with a prior that does not know c: Kingma et al. 2014, M2).
"""

import pyro
import pyro.distributions as dist
import torch
from pyrovae.models.vae import VAE
from torch import Tensor, nn

import pyrovae

TRAINING_DEFAULTS = {"steps": 3600, "batch_size": 128, "lr": 2e-3}


class ConditionalVAE(VAE):
    """p(x|c) of rows (x, c), c the last `given` numbers."""

    handles_missing = False  # what is given may not be missing

    def __init__(
        self, decoder: nn.Module, latent: int, dim: int, given: int, likelihood: pyrovae.likelihoods.Likelihood
    ):
        """`decoder` is any module from (B, latent + given) to (B, likelihood.num_outputs(dim − given))."""
        super().__init__(decoder, latent, dim - given, likelihood)
        self.given = given

    def forward(self, x: Tensor) -> None:
        x, c = x[:, : -self.given], x[:, -self.given :]
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.decode_given(z, c), obs=x)

    def decode_given(self, z: Tensor, c: Tensor) -> dist.TorchDistribution:
        """p(x|z,c): z (*batch, latent) and c (N, given), whose points are the last dimension of batch."""
        c = c.expand(*z.shape[:-1], self.given)
        return self.decode(torch.cat([z, c], dim=-1))

    def draw(self, c: Tensor) -> Tensor:
        """x ~ p(x|c), one for each row of c (N, given): (N, dim − given)."""
        with torch.no_grad():
            z = self.prior(c).sample(c.shape[:1])
            return self.decode_given(z, c).sample()

    def initialise(self, x: Tensor) -> None:
        """Begin at the moments of what is scored."""
        super().initialise(x[:, : -self.given])


def pair(
    dim: int,
    given: int = 1,
    latent: int = 16,
    hidden: tuple[int, ...] = (200, 200),
    likelihood: pyrovae.likelihoods.Likelihood | None = None,
    guide: type = pyrovae.guides.MeanField,
) -> tuple[ConditionalVAE, nn.Module]:
    """`given` of the `dim` columns, the last, are what is given: 10 for one-hot digits. The rest as for the vae."""
    if not 0 < given < dim:
        raise pyrovae.InvalidInputError(
            f"given={given} of {dim} columns: give at least 1 and leave at least 1 to be scored."
        )
    likelihood = likelihood or pyrovae.likelihoods.PixelNormal()
    decoder = pyrovae.MLP(latent + given, *reversed(hidden), likelihood.num_outputs(dim - given))
    return ConditionalVAE(decoder, latent, dim, given, likelihood), guide(dim, latent, hidden)
