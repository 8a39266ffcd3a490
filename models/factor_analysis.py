"""Factor analysis: z ~ N(0, I), x|z ~ N(Wz + μ, diag ψ).

x ~ N(μ, WWᵀ + diag ψ) and z|x, a Gaussian whose precision is I + Wᵀψ⁻¹W, are exact (Rubin & Thayer 1982).
"""

import torch
from pyrovae.models.ppca import FactorModel, checked_latent
from torch import Tensor, nn

import pyrovae

AT_FLOOR = 1e-3  # relative: noise so near its floor is said to be at it
TRAINING_DEFAULTS = {"steps": 300, "batch_size": 2048, "lr": 1e-2}


class FactorAnalysis(FactorModel):
    """z ~ N(0, I_k), x|z ~ N(Wz + μ, diag ψ), every ψ_d = floor · s_d² + exp(ρ_d), s_d the standard deviation of column d.

    Without a floor the likelihood has no maximum: a factor that is one of the x_d leaves it no noise (Heywood 1931).
    """

    def __init__(self, dim: int, latent: int, floor: float):
        super().__init__(dim, latent)
        if not 0 < floor < float("inf"):
            raise pyrovae.InvalidInputError(f"floor={floor} is no floor of variances: give a number above 0.")
        self.floor = floor
        self.rho = nn.Parameter(torch.zeros(dim))

    @property
    def least(self) -> Tensor:
        """The least ψ, (dim,)."""
        return self.floor * self.unit.square()

    @property
    def noise(self) -> Tensor:
        return self.least + self.rho.exp()

    def directions_at_floor(self) -> Tensor:
        """Which columns have the least noise: (1, dim)."""
        return (self.noise.detach() <= self.least * (1 + AT_FLOOR)).double().unsqueeze(0)

    def set_noise(self, residual: Tensor, total: Tensor | None = None) -> None:
        """The residuals, raised to the floor (but for a millionth of it) where they are below."""
        least = self.least.double()
        self.rho.copy_(torch.maximum(residual.double() - least, 1e-6 * least).log())

    def initialise(self, x: Tensor) -> None:
        """Begin at the principal directions of the standardised x.

        Neither the factors nor the start depend on the units of x.
        """
        _, left = self.begin(x, standardised=True)
        with torch.no_grad():
            self.set_noise(left)
        self.climb(x)


def pair(
    dim: int, latent: int | None = None, floor: float = 1e-4, guide: type = pyrovae.guides.ExactPosterior
) -> tuple[FactorAnalysis, object]:
    """Build the model and its guide.

    Args:
        dim: D, the size of one point x.
        latent: k, the size of z: 8, or D − 1 if that is less.
        floor: The smallest ψ_d, as a fraction of the variance of the column.
        guide: ExactPosterior, LinearGaussian, or any other for R^k.
    """
    latent = checked_latent(dim, latent)
    model = FactorAnalysis(dim, latent, floor)
    return model, guide(model) if guide is pyrovae.guides.ExactPosterior else guide(dim, latent)
