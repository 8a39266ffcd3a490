"""Mixture of factor analysers: k ~ Cat(π), z ~ N(0, I), x|k,z ~ N(W_k z + μ_k, diag ψ_k).

The mixture of PPCAs with a noise for each of x's numbers (Ghahramani & Hinton 1997, there with one ψ for all k). log
p(x) and the posteriors p(k|x) and p(z|x, k) are exact.
"""

from pyrovae.models.mixture_ppca import JointPosterior, MixtureOfFactors
from torch import Tensor

TRAINING_DEFAULTS = {"steps": 50, "batch_size": 2048, "lr": 1e-3}


class MixtureFA(MixtureOfFactors):
    """Mixture of factor analysers. ψ_k has `dim` numbers, none below the floor, a fraction of the column's variance.

    Without a floor, a component could take a single x_d for its factor and leave it no noise.
    """

    standardised = True

    @property
    def least(self) -> Tensor:
        return self.floor * self.unit.square()

    def __init__(self, dim: int, components: int, latent: int, floor: float):
        super().__init__(dim, components, latent, dim, floor)


def pair(
    dim: int, components: int = 10, latent: int | None = None, floor: float = 1e-3
) -> tuple[MixtureFA, JointPosterior]:
    """Build the model and its guide.

    Args:
        dim: D, the size of one point x.
        components: K, the number of components.
        latent: Factors in each component: 4, or D − 1 if that is less.
        floor: The smallest ψ_kd, as a fraction of the variance of the column.
    """
    model = MixtureFA(dim, components, min(4, dim - 1) if latent is None else latent, floor)
    return model, JointPosterior(model)
