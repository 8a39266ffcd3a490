"""Factor analysis: z ~ N(0, I), x|z ~ N(Wz + μ, diag ψ).

x ~ N(μ, WWᵀ + diag ψ) and z|x, a Gaussian whose precision is I + Wᵀψ⁻¹W, are exact (Rubin & Thayer 1982).
"""

import torch
from pyrovae.models.ppca import FactorModel, checked_latent
from torch import Tensor, nn

import pyrovae

TRAINING_DEFAULTS = {"steps": 300, "batch_size": 2048, "lr": 1e-2}


class FactorAnalysis(FactorModel):
    """z ~ N(0, I_k), x|z ~ N(Wz + μ, diag ψ), every ψ_d = floor + exp(ρ_d).

    Without a floor the likelihood has no maximum: a factor that is one of the x_d leaves it no noise (Heywood 1931).
    """

    def __init__(self, dim: int, latent: int, floor: float):
        super().__init__(dim, latent)
        if not 0 < floor < float("inf"):
            raise pyrovae.InvalidInputError(f"floor={floor} is no floor of variances: give a number above 0.")
        self.floor = floor
        self.rho = nn.Parameter(torch.zeros(dim))

    @property
    def noise(self) -> Tensor:
        return self.floor + self.rho.exp()

    def set_noise(self, residual: Tensor) -> None:
        """The residuals, raised to the floor (but for a millionth of it) where they are below."""
        self.rho.copy_((residual - self.floor).clamp(min=1e-6 * self.floor).log())

    def initialise(self, x: Tensor) -> None:
        """Begin at the principal directions of the standardised x.

        Neither the factors nor the start depend on the units of x.
        """
        self.begin(x, x.std(dim=0, correction=0).clamp(min=self.floor**0.5))


def pair(
    dim: int, latent: int | None = None, floor: float = 1e-4, guide: type = pyrovae.guides.ExactPosterior
) -> tuple[FactorAnalysis, object]:
    """Build the model and its guide.

    Args:
        dim: D, the size of one point x.
        latent: k, the size of z: 8, or D − 1 if that is less.
        floor: The smallest ψ_d.
        guide: ExactPosterior, LinearGaussian, or any other for R^k.
    """
    latent = checked_latent(dim, latent)
    model = FactorAnalysis(dim, latent, floor)
    return model, guide(model) if guide is pyrovae.guides.ExactPosterior else guide(dim, latent)
