"""Bernoulli (logistic) PCA: z ~ N(0, I), x|z ~ Π_d Bernoulli(sigmoid(Wz + μ)_d).

A VAE whose decoder is one matrix (Tipping 1999); its posterior is no Gaussian, and log p(x) is not exact.
"""

from pyrovae.models.vae import VAE
from torch import nn

import pyrovae

TRAINING_DEFAULTS = {"steps": 3600, "batch_size": 128, "lr": 5e-3}


def pair(
    dim: int, latent: int = 8, hidden: tuple[int, ...] = (200,), guide: type = pyrovae.guides.FullCovariance
) -> tuple[VAE, nn.Module]:
    """`hidden` widths are the guide's; `guide` is FullCovariance or MeanField."""
    decoder = nn.Linear(latent, dim, bias=False)  # the VAE's offset is μ
    return VAE(decoder, latent, dim, pyrovae.likelihoods.Bernoulli()), guide(dim, latent, hidden)
