"""Bounds on log p(x) from K draws a point, by the gradient of the draws as they are (reparameterised).

log w_s = log p(x, z_s) − log q(z_s|x), z_s ~ q(·|x). Each point has its own K weights and its own logarithm: a subsample's scale
stands outside it.
"""

import math

from torch import Tensor

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide
from ..pair.structure import Structure
from ..statistics.log_weights import elbo, log_likelihood
from .base import Objective, Terms, check_num_samples, check_reparameterised
from .log_densities import draw


class MultiSampleObjective(Objective):
    """Base of the bounds that are functions of K log-weights. A new one writes `bound`.

    Args:
        num_samples: K, draws of the guide for each point.
    """

    def __init__(self, num_samples: int):
        super().__init__()
        self.num_samples = check_num_samples(num_samples)

    def bound(self, log_w: Tensor) -> Tensor:
        """Return the bound (B,) in nats, given log w (K, B)."""
        raise NotImplementedError

    def check(self, structure: Structure) -> None:
        super().check(structure)
        check_reparameterised(self, structure)

    def batch(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure) -> Terms:
        draws = draw(model, guide, x, self.num_samples, structure.max_plate_nesting)
        return draws.terms(-self.bound(draws.log_w).sum())

    def hyperparameters(self) -> tuple[float, ...]:
        return (self.num_samples,)


class IWAE(MultiSampleObjective):
    """L_K = E log (1/K) Σ_s w_s, the importance-weighted bound. L_1 is the ELBO, and L_K ≤ L_{K+1} ≤ log p(x).

    The signal-to-noise ratio of the guide's gradient falls as 1/√K (Rainforth et al. 2018). `DReG` has the same
    bound, and a gradient whose ratio grows.

    Args:
        num_samples: K, draws of the guide for each point.

    Raises:
        InvalidInputError: A latent is drawn without reparameterisation.

    References:
        Burda, Grosse & Salakhutdinov (2016). Importance weighted autoencoders. Equation 8.
    """

    def bound(self, log_w: Tensor) -> Tensor:
        return log_likelihood(log_w)


class Renyi(MultiSampleObjective):
    """L_α = 1/(1−α) · E log (1/K) Σ_s w_s^(1−α), the variational Rényi bound.

    It is the ELBO at α = 1 and `IWAE` at α = 0, and it falls in α. α = −∞ takes the largest weight (VR-max). For α <
    0 it is no lower bound on log p(x).

    Args:
        alpha: α.
        num_samples: K, draws of the guide for each point.

    References:
        Li & Turner (2016). Rényi divergence variational inference.
    """

    def __init__(self, alpha: float, num_samples: int):
        super().__init__(num_samples)
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not alpha < math.inf:
            raise InvalidInputError(f"alpha is {alpha}: give a number below infinity, such as 0.5.")
        self.alpha = float(alpha)

    def bound(self, log_w: Tensor) -> Tensor:
        if self.alpha == 1.0:
            return elbo(log_w)
        if self.alpha == -math.inf:
            return log_w.max(dim=0).values
        return log_likelihood((1 - self.alpha) * log_w) / (1 - self.alpha)

    def hyperparameters(self) -> tuple[float, ...]:
        return self.alpha, self.num_samples
