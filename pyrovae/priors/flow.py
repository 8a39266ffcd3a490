"""A prior that a normalising flow makes of the standard normal."""

from typing import Any

import pyro.distributions as dist
import pyro.distributions.transforms as T
import torch
from pyro.nn import DenseNN
from torch import Tensor, nn

from ..errors import InvalidInputError
from .base import Prior, check_count


class FlowPrior(Prior):
    """Prior of z = T(ε), ε ~ N(0, I), where T is a chain of affine couplings that begins near the identity.

    The density is exact. Draws and densities take one pass each.

    Args:
        layers: How many couplings T has.
        width: Hidden units in the network of each coupling.

    References:
        Dinh, Sohl-Dickstein & Bengio (2017). Density estimation using Real NVP.
        Chen et al. (2017). Variational lossy autoencoder.
    """

    reversal: Tensor

    def __init__(self, layers: int = 4, width: int = 64):
        super().__init__()
        self.count, self.width = check_count(self, "layers", layers), check_count(self, "width", width)

    def prepare(self, dim: int, latent: int, guide: Any) -> None:
        if latent < 2:
            raise InvalidInputError(
                f"FlowPrior turns one latent number by another, and latent is {latent}: take MixtureOfGaussians."
            )
        half = latent // 2
        self.nets = nn.ModuleList(
            DenseNN(half, [self.width], [latent - half] * 2, nonlinearity=nn.Tanh()) for _ in range(self.count)
        )
        with torch.no_grad():
            for name, parameter in self.nets.named_parameters():
                if ".layers.1." in name:  # the last
                    parameter.mul_(0.1)
        self.register_buffer("reversal", torch.arange(latent).flip(0))

    def forward(self, x: Tensor) -> dist.TorchDistribution:
        assert self.latent is not None
        transforms: list[Any] = []
        for net in self.nets:  # a transform remembers its last draw, and is made anew for that
            transforms += [T.AffineCoupling(self.latent // 2, net), T.Permute(self.reversal)]
        noise = dist.Normal(x.new_zeros(self.latent), x.new_ones(self.latent)).to_event(1)
        return dist.TransformedDistribution(noise, transforms)
