"""p(x|z) families: objects that turn a decoder's outputs η into a distribution over x.

η comes from a network in a VAE. It comes from a linear map in a logistic PCA, and from a table's row in a mixture. What
follows is the same, and it is here. To add a family, write `num_outputs`, `forward` and `initial_outputs`.
"""

import math

import pyro.distributions as dist
from torch import Tensor

from ..errors import InvalidInputError
from ..nn import Module


def checked_floor(floor: float) -> float:
    """Return the floor of variances, which must be above 0.

    Without a floor, the density of data that hardly vary has no maximum.
    """
    if not 0 < floor < math.inf:
        raise InvalidInputError(f"floor={floor} is no floor of variances: give a number above 0.")
    return floor


class Likelihood(Module):
    """Base of all p(x|η), where x has `dim` numbers and η, the output of the decoder, has `num_outputs(dim)`.

    A new family writes `num_outputs`, `forward` and `initial_outputs`.
    """

    beside = False  # whether η has all numbers of one x_d together, else the first of every x_d, then the second

    def num_outputs(self, dim: int) -> int:
        """Return how many numbers η must have for x of `dim` numbers."""
        return dim

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        """Return p(x|η), with batch_shape `batch` and event_shape (dim,), for η (*batch, outputs)."""
        raise NotImplementedError

    def initial_outputs(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return η (*batch, outputs) where training begins: p(x|η) has about these moments (*batch, dim)."""
        raise NotImplementedError

    def in_units(self, density: dist.TorchDistribution, centre: Tensor, scale: Tensor) -> dist.TorchDistribution:
        """The density of x = centre + scale · y where `density` is that of y: centre and scale (dim,).

        Here y is x itself: a family whose values have no units does not know of any.
        """
        return density

    def m_step(self, mean: Tensor, variance: Tensor, fraction: Tensor) -> Tensor:
        """Return the η (K, outputs) that maximises the mean of log p(x|η_k) over points. Only EM needs it.

        Args:
            mean: Means of the points of each component, (K, dim).
            variance: Their variances, (K, dim).
            fraction: The fraction of the data that belongs to each component, (K,).
        """
        raise InvalidInputError(
            f"{type(self).__name__} does not say where its likelihood is highest: train without EM, or write "
            "m_step(mean, variance, fraction)."
        )
