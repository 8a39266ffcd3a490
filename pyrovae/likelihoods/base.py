"""p(x|z) families: objects that turn a decoder's outputs η into a distribution over x.

A VAE, a logistic PCA and a mixture differ in where η comes from (a network, a linear map, a row of a table); what they do
with it is here. To add a family, write `num_outputs`, `forward` and `initial_outputs`.
"""

import math

import pyro.distributions as dist
from torch import Tensor

from ..errors import InvalidInputError
from ..nn import Module


def checked_floor(floor: float) -> float:
    """A floor of variances must be above 0: without one the density of data that hardly vary has no maximum."""
    if not 0 < floor < math.inf:
        raise InvalidInputError(f"floor={floor} is no floor of variances: give a number above 0.")
    return floor


class Likelihood(Module):
    """p(x|η) over x of `dim` numbers, from η of `num_outputs(dim)` numbers."""

    def num_outputs(self, dim: int) -> int:
        """How many numbers η must have for x of `dim` numbers."""
        return dim

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        """η (*batch, outputs) → a distribution with batch_shape `batch` and event_shape (dim,)."""
        raise NotImplementedError

    def initial_outputs(self, mean: Tensor, variance: Tensor) -> Tensor:
        """η (*batch, outputs) at which p(x|η) has about these moments (*batch, dim): where training begins."""
        raise NotImplementedError

    def in_units(self, density: dist.TorchDistribution, centre: Tensor, scale: Tensor) -> dist.TorchDistribution:
        """The density of x = centre + scale · y where `density` is that of y: centre and scale (dim,).

        Here y is x itself: a family whose values have no units does not know of any.
        """
        return density

    def m_step(self, mean: Tensor, variance: Tensor, fraction: Tensor) -> Tensor:
        """η (K, outputs) that maximises the mean of log p(x|η_k) over points of these moments (K, dim), whose fractions of the data are (K,):
        what an EM step needs; training does not."""
        raise InvalidInputError(
            f"{type(self).__name__} does not say where its likelihood is highest: train without EM, or write "
            "m_step(mean, variance, fraction)."
        )
