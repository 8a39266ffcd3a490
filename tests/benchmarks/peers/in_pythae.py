"""The evidence benchmark's VAE as pythae's, with the same weights, for its own `get_nll`."""

import math

import torch
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from torch import Tensor
from torch.nn import functional as F


class Encoder(BaseEncoder):
    def __init__(self, encoder: torch.nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> ModelOutput:
        loc, rho = self.encoder(x).chunk(2, dim=-1)
        scale = F.softplus(rho + math.log(math.e - 1)) + 1e-6
        return ModelOutput(embedding=loc, log_covariance=2 * scale.log())


class Decoder(BaseDecoder):
    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=torch.sigmoid(self.model.decoder(z) + self.model.offset))


def in_pythae(model: torch.nn.Module, guide: torch.nn.Module, dim: int, latent: int) -> VAE:
    """Bernoulli pixels: pythae's loss "bce"."""
    config = VAEConfig(input_dim=(dim,), latent_dim=latent, reconstruction_loss="bce")
    return VAE(config, encoder=Encoder(guide.encoder), decoder=Decoder(model)).eval()
