"""Linear VAE: z ~ N(0, I), x|z ~ N(Wz + μ, σ²I), q(z|x) = N(Ax + b, diag s²): a VAE without its networks.

The model is PPCA. The covariance of its posterior is not diagonal until the columns of W are orthogonal. So the
maximum of the ELBO is the likelihood of PPCA, without a gap. There W has the leading eigenvectors themselves, where
PPCA allows any rotation of them. Let σ² be fixed. Then latent j carries nothing, q(z_j|x) = p(z_j), exactly if the j-th
eigenvalue of the data's covariance is at most σ² (Lucas, Tucker, Grosse & Norouzi 2019).
"""

import math
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from pyrovae.models.ppca import PPCA, checked_latent
from torch import Tensor, nn

import pyrovae

TRAINING_DEFAULTS = {"steps": 300, "batch_size": 2048, "lr": 1e-3}


class LinearVAE(PPCA):
    """z ~ N(0, I_k), x|z ~ N(Wz + μ, σ²I), σ learned or given.

    Steps in W and μ are of the noise's size where columns vary more. The guide follows the model with a delay, and
    its lag counts in units of σ.
    """

    step_unit: Tensor

    def __init__(self, dim: int, latent: int, sigma: float | None):
        super().__init__(dim, latent)
        self.register_buffer("step_unit", torch.ones(dim))
        if sigma is not None:
            if not 0 < sigma < math.inf:
                raise pyrovae.InvalidInputError(f"sigma={sigma} is no standard deviation: give a number above 0.")
            self.log_sigma.requires_grad_(False).fill_(math.log(sigma))

        self.followers: list[Callable[[PPCA], None]] = []

    def initialise(self, x: Tensor) -> None:
        """Begin where PPCA does, and let the guide begin at the posterior there."""
        super().initialise(x)
        self.step_unit.copy_(torch.minimum(self.unit, self.noise.detach().sqrt()))
        for follow in self.followers:
            follow(self)

    def parameter_units(self) -> list[tuple[Tensor, Tensor]]:
        return [(self.W, self.step_unit.unsqueeze(-1)), (self.mu, self.step_unit)]

    def set_noise(self, residual: Tensor, total: Tensor | None = None) -> None:
        if self.log_sigma.requires_grad:
            super().set_noise(residual, total)


class LinearMeanField(pyrovae.Module):
    """q(z|x) = N(A(x − c) + b, diag s²), one s for all x, c the data's mean at the start."""

    centre: Tensor
    input_unit: Tensor
    output_unit: Tensor

    def __init__(self, dim: int, latent: int):
        super().__init__()
        self.encoder = nn.Linear(dim, latent)
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("input_unit", torch.ones(dim))
        self.register_buffer("output_unit", torch.ones(latent))
        self.log_s = nn.Parameter(torch.zeros(latent))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.posterior(x))

    def follow(self, model: PPCA) -> None:
        """Become the best of the family for the model as it is: its posterior's mean, and s_j² = 1/P_jj of its precision P."""
        root, _, gain = model.inverse_model()
        with torch.no_grad():
            self.encoder.weight.copy_(gain.mT)
            self.encoder.bias.zero_()
            self.centre.copy_(model.mu)
            self.log_s.copy_(-root.square().sum(dim=-1).log() / 2)
            self.input_unit.copy_(model.unit)
            self.output_unit.copy_(self.log_s.exp())

    def parameter_units(self) -> list[tuple[Tensor, Tensor]]:
        """A maps x's units to those of z, of which q's width is one."""
        return [
            (self.encoder.weight, self.output_unit.unsqueeze(-1) / self.input_unit),
            (self.encoder.bias, self.output_unit),
        ]

    def posterior(self, x: Tensor) -> dist.TorchDistribution:
        """q(z|x)."""
        y = x - self.centre
        y = pyrovae.nn.fill_missing(y) if pyrovae.nn.has_missing(x) else y  # with the mean
        return dist.Normal(self.encoder(y), self.log_s.exp()).to_event(1)


def pair(
    dim: int, latent: int | None = None, sigma: float | None = None, guide: type = LinearMeanField
) -> tuple[LinearVAE, object]:
    """Build the model and its guide.

    Args:
        dim: D, the size of one point x.
        latent: k, the size of z: 8, or D − 1 if that is less.
        sigma: The standard deviation of the noise; learned if it is not given.
        guide: LinearMeanField, LinearGaussian, MeanField or FullCovariance.
    """
    latent = checked_latent(dim, latent)
    model = LinearVAE(dim, latent, sigma)
    if guide is pyrovae.guides.ExactPosterior:
        return model, guide(model)
    q = guide(dim, latent)
    if isinstance(q, LinearMeanField):
        model.followers.append(q.follow)
    return model, q
