"""Priors p(z) over R^k that a model of a continuous latent can have in place of N(0, I): objects with parameters of their own.

| prior | p(z) | paper |
|---|---|---|
| `StandardNormal` | N(0, I) | Kingma & Welling 2014 |
| `MixtureOfGaussians` | Σ_j π_j N(μ_j, diag σ_j²) | Dilokthanakul et al. 2016 |
| `VampPrior` | (1/C) Σ_c q(z|u_c), q the guide, u_c pseudo-inputs | Tomczak & Welling 2018 |
| `FlowPrior` | T(ε), ε ~ N(0, I), T affine couplings | Chen et al. 2017 |

A prior is made with sizes of its own, `VampPrior(100)`, and is told of its pair by `bind(dim, latent, guide)`, which the model calls.
"""

import math
from typing import Any

import pyro.distributions as dist
import pyro.distributions.transforms as T
import torch
from pyro.nn import DenseNN
from torch import Tensor, nn

from ..errors import Refusal
from ..guides import Amortised, MixtureNormal, positive
from ..nn import Module


class Prior(Module):
    """p(z). To add one, write `prepare` and `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.latent: int | None = None

    def bind(self, dim: int, latent: int, guide: Any) -> "Prior":
        """Make it the prior of a pair: x of `dim` numbers, z of `latent`, and the guide. A prior belongs to one model."""
        if self.latent is not None:
            raise Refusal(f"This {type(self).__name__} is another model's prior already: make one for each model.")
        self.latent = latent
        self.prepare(dim, latent, guide)
        return self

    def prepare(self, dim: int, latent: int, guide: Any) -> None:
        """Make the parameters."""

    def start(self, x: Tensor) -> None:
        """Begin where the data (N, dim) suggest."""

    def forward(self, x: Tensor) -> dist.TorchDistribution:
        """p(z), event_shape (latent,) and no batch_shape, in the type and on the device of x."""
        raise NotImplementedError


class StandardNormal(Prior):
    """p(z) = N(0, I)."""

    def forward(self, x: Tensor) -> dist.TorchDistribution:
        assert self.latent is not None
        return dist.Normal(x.new_zeros(self.latent), x.new_ones(self.latent)).to_event(1)


class MixtureOfGaussians(Prior):
    """p(z) = Σ_j π_j N(μ_j, diag σ_j²), all learned; it begins near N(0, I)."""

    def __init__(self, count: int = 10):
        super().__init__()
        self.count = _counted(self, "count", count)

    def prepare(self, dim: int, latent: int, guide: Any) -> None:
        self.logits = nn.Parameter(torch.zeros(self.count))
        self.loc = nn.Parameter(0.5 * torch.randn(self.count, latent))  # equal components would stay equal
        self.rho = nn.Parameter(torch.full((self.count, latent), math.log(math.expm1(0.75**0.5)) - _RHO_AT_1))

    def forward(self, x: Tensor) -> dist.TorchDistribution:
        return MixtureNormal(self.loc, positive(self.rho), self.logits)


class VampPrior(Prior):
    """p(z) = (1/C) Σ_c q(z|u_c): the guide's posteriors at C learned pseudo-inputs, which begin at random points of the data.

    The best p(z) for a guide is its mean over the data, (1/N) Σ_n q(z|x_n), and this is that with fewer points. Model and guide
    share the encoder: one pass of it over the pseudo-inputs is added to a step.
    """

    def __init__(self, count: int = 50):
        super().__init__()
        self.count = _counted(self, "count", count)

    def prepare(self, dim: int, latent: int, guide: Any) -> None:
        if not isinstance(guide, Amortised):
            raise Refusal(
                f"VampPrior is made of q(z|u), and {getattr(type(guide), '__name__', guide)} has no encoder for a new u: take a guide "
                "such as MeanField, or another prior."
            )
        self._guide = (guide,)  # not a part of the model: its parameters keep the guide's names
        self.inputs = nn.Parameter(torch.rand(self.count, dim))

    def start(self, x: Tensor) -> None:
        with torch.no_grad():
            self.inputs.copy_(x[torch.randint(len(x), (self.count,), device=x.device)])

    def forward(self, x: Tensor) -> dist.TorchDistribution:
        guide = self._guide[0]
        components = guide.posterior(guide.encoder(self.inputs))
        return dist.MixtureSameFamily(dist.Categorical(logits=x.new_zeros(self.count)), components)


class FlowPrior(Prior):
    """z = T(ε), ε ~ N(0, I), T of affine couplings (Dinh et al. 2017) that begin near the identity: exact density, one pass either
    way."""

    reversal: Tensor

    def __init__(self, layers: int = 4, width: int = 64):
        super().__init__()
        self.count, self.width = _counted(self, "layers", layers), _counted(self, "width", width)

    def prepare(self, dim: int, latent: int, guide: Any) -> None:
        if latent < 2:
            raise Refusal(
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


_RHO_AT_1 = math.log(math.expm1(1.0))  # `positive` is 1 at 0


def _counted(prior: Prior, name: str, count: int) -> int:
    if not isinstance(count, int) or count < 1:
        raise Refusal(f"{name}={count} of {type(prior).__name__}: give a whole number, at least 1.")
    return count
