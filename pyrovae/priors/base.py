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
from torch import Tensor

from ..errors import InvalidInputError, check_int
from ..nn import Module


class Prior(Module):
    """Base of the priors p(z). A new one writes `prepare` and `forward`.

    It is made with sizes of its own, as in `VampPrior(100)`. The model calls `bind`, which tells it about the pair.
    """

    def __init__(self) -> None:
        super().__init__()
        self.latent: int | None = None

    def bind(self, dim: int, latent: int, guide: Any) -> "Prior":
        """Make it the prior of a pair. A prior belongs to one model.

        Args:
            dim: D, the size of one point x.
            latent: k, the size of z.
            guide: The guide, or its family.
        """
        if self.latent is not None:
            raise InvalidInputError(
                f"This {type(self).__name__} is another model's prior already: make one for each model."
            )
        self.latent = latent
        self.prepare(dim, latent, guide)
        return self

    def prepare(self, dim: int, latent: int, guide: Any) -> None:
        """Make the parameters."""

    def start(self, x: Tensor) -> None:
        """Begin at values that suit the data x (N, dim)."""

    def forward(self, x: Tensor) -> dist.TorchDistribution:
        """Return p(z), with event_shape (latent,) and no batch_shape, in the type and on the device of x."""
        raise NotImplementedError


class StandardNormal(Prior):
    """Prior p(z) = N(0, I)."""

    def forward(self, x: Tensor) -> dist.TorchDistribution:
        assert self.latent is not None
        return dist.Normal(x.new_zeros(self.latent), x.new_ones(self.latent)).to_event(1)


RHO_AT_1 = math.log(math.expm1(1.0))  # `positive` is 1 at 0


def check_count(prior: Prior, name: str, count: int) -> int:
    """Raise `InvalidInputError` unless `count` is a whole number above 0."""
    check_int(name, count, 1, shown=f"{name}={count} of {type(prior).__name__}")
    return count
