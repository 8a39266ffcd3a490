"""Gaussian: x ~ N(μ, Σ), or x = μ + E Λ^½ z, z ~ N(0, I), Σ = E Λ Eᵀ: the baseline of image generation.

No latent is named: given x it is one point, z = Λ^−½ Eᵀ(x − μ). log p(x) is exact, and so is the maximum of the likelihood, the
data's mean and covariance.
"""

import pyro
import torch
from torch import Tensor

import pyrovae

TRAINING_DEFAULTS = {"epochs": 0}  # it begins at the maximum of the likelihood
EM_STEPS, EM_TOLERANCE = 1000, 1e-7  # to that maximum, nats per point, where entries are missing


class Gaussian(pyrovae.Module):
    """x ~ N(μ, Σ), no eigenvalue of the columns' correlation matrix below a floor."""

    handles_missing = True  # NaN in x is integrated out
    initialised: Tensor

    def __init__(self, dim: int, floor: float):
        super().__init__()
        self.components = pyrovae.likelihoods.Full(1, dim, floor)  # a mixture of one
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", pyrovae.distributions.observed(self.density(), x), obs=x)

    def density(self) -> pyrovae.distributions.PrecisionNormal:
        """p(x)."""
        family = self.components.family()
        return pyrovae.distributions.PrecisionNormal(family.loc[0], family.factor[0], log_det=family.log_det[0])

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(x | μ, Σ): (N, dim) → (N,), nats."""
        return pyrovae.distributions.observed(self.density(), x).log_prob(x)

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

        Eigenvalues of the correlation matrix below the floor are raised to it. Where entries of x are missing, EM
        climbs to the maximum of the likelihood of the others.
        """
        self.components.start(x, x.new_ones(len(x), 1))
        self.initialised.fill_(True)
        if pyrovae.nn.has_missing(x):
            pyrovae.EM(steps=EM_STEPS, tol=EM_TOLERANCE)(self, x)

    def em_step(self, x: Tensor) -> Tensor:
        """Make one step of EM over all of x (N, dim) (Dempster, Laird & Rubin 1977, §4.1.3).

        The latents are the missing entries. Where there are none, one step is the maximum of the likelihood.

        Returns:
            The mean log p(x) before the step, (), nats per point.
        """
        with torch.no_grad():
            log_p = self.log_prob(x).double().mean()
            self.components.expected_m_step(x, x.new_ones(len(x), 1))
            return log_p

    def conditional(self, x: Tensor) -> pyrovae.distributions.Conditional:
        """Return p(x|observed entries of x): a normal for each point."""
        return pyrovae.distributions.conditional_of(self.components.family(), x, x.new_zeros(len(x), 1))

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
