"""Gaussian: x ~ N(μ, Σ), or x = μ + E Λ^½ z, z ~ N(0, I), Σ = E Λ Eᵀ: the baseline of image generation.

No latent is named: given x it is one point, z = Λ^−½ Eᵀ(x − μ). log p(x) is exact, and so is the maximum of the likelihood, the
data's mean and covariance.
"""

import pyro
import torch
from torch import Tensor

import pyrovae

TRAINING_DEFAULTS = {"epochs": 0}  # it begins at the maximum of the likelihood


class Gaussian(pyrovae.Module):
    """x ~ N(μ, Σ), no eigenvalue of the columns' correlation matrix below a floor."""

    initialised: Tensor

    def __init__(self, dim: int, floor: float):
        super().__init__()
        self.components = pyrovae.likelihoods.Full(1, dim, floor)  # a mixture of one
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", self.density(), obs=x)

    def density(self) -> pyrovae.distributions.PrecisionNormal:
        """p(x)."""
        family = self.components.family()
        return pyrovae.distributions.PrecisionNormal(family.loc[0], family.factor[0], log_det=family.log_det[0])

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(x | μ, Σ): (N, dim) → (N,), nats."""
        return self.density().log_prob(x)

    @property
    def mean(self) -> Tensor:
        """μ: (dim,)."""
        return self.density().mean

    def eigen(self) -> tuple[Tensor, Tensor]:
        """Λ's diagonal (dim,), widest first, and E (dim, dim), whose columns are the eigenvectors, each up to its sign."""
        variances, vectors = torch.linalg.eigh(self.density().covariance_matrix)
        return variances.flip(0), vectors.flip(1)

    def decode(self, z: Tensor) -> Tensor:
        """x = μ + E Λ^½ z: (*batch, dim) → (*batch, dim). The first z move x along the widest directions."""
        variances, vectors = self.eigen()
        return self.mean + (z * variances.sqrt()) @ vectors.mT

    def encode(self, x: Tensor) -> Tensor:
        """z = Λ^−½ Eᵀ(x − μ), the inverse of `decode`."""
        variances, vectors = self.eigen()
        return ((x - self.mean) @ vectors) / variances.sqrt()

    def initialise(self, x: Tensor) -> None:
        """Set the mean and the covariance of x (divisor N), where training also ends.

        Eigenvalues of the correlation matrix below the floor are raised to it.
        """
        self.components.start(x, x.new_ones(len(x), 1))
        self.initialised.fill_(True)

    def directions_at_floor(self) -> Tensor | None:
        """As of a mixture of one component: how many directions at the floor lie in each column."""
        return self.components.directions_at_floor()


class NoLatent:
    """q() of no latent at all: it has nothing to say."""

    def __call__(self, x: Tensor) -> None:
        pass


def pair(dim: int, floor: float = 1e-8) -> tuple[Gaussian, NoLatent]:
    """No eigenvalue of the columns' correlation matrix falls below `floor`."""
    return Gaussian(dim, floor), NoLatent()
