"""`IWAE`'s bound, with gradients of the guide that go through its draws alone.

The score ∂ log q/∂φ at a fixed draw is noise: at K = 1 its mean is zero. What is left is Σ_s c_s ∂ log w_s/∂z_s · dz_s/dφ, and it
vanishes, draw by draw, where the guide is the exact posterior. With w̃_s = w_s / Σ w, `STL` has c = w̃ and `DReG` c = w̃². The
model's parameters have the bound's own gradient, Σ_s w̃_s ∂ log p(x, z_s)/∂θ. Both objects' value is the bound.
"""

from typing import Any

import torch
from torch import Tensor

from ..pair.execution import ModelOrGuide
from ..pair.structure import Structure
from ..statistics.log_weights import log_likelihood
from .base import Terms
from .importance_weighted import IWAE
from .log_densities import detach_draws, draw


class PathGradient(IWAE):
    """Base of the objectives whose guide has gradients through its draws only. A new one writes `along`."""

    def along(self, weights: Tensor, beta: Any) -> Tensor:
        """Return c (K, B), the weights of the paths, given the normalised weights w̃ (K, B) and the weight β of the KL."""
        raise NotImplementedError

    def batch(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure) -> Terms:
        detached = detach_draws()
        draws = draw(model, guide, x, self.num_samples, structure.max_plate_nesting, detached)
        log_w = draws.log_w
        loss = -log_likelihood(log_w.detach()).sum()
        if not torch.is_grad_enabled():
            return draws.terms(loss)
        weights = log_w.detach().softmax(dim=0)
        gradient = (weights * draws.log_p).sum() + _through(detached, (self.along(weights, draws.beta) * log_w).sum())
        return draws.terms(loss - (gradient - gradient.detach()))


def _through(draws: detach_draws, value: Tensor) -> Tensor:
    """What has, by the guide's parameters, the gradient that `value` has through the draws.

    From the last draw to the first: one that was drawn given others hands its part on to them.
    """
    names = [name for name, detached in draws.detached.items() if detached.requires_grad]
    along = value.new_zeros(())
    for name in reversed(names):
        whole = value + along
        (slope,) = torch.autograd.grad(whole, draws.detached[name], retain_graph=True, allow_unused=True)
        if slope is not None:
            along = along + (draws.drawn[name] * slope.detach()).sum()
    return along


class STL(PathGradient):
    """Sticking the landing: the bound of `IWAE`, with paths weighted by c = w̃.

    With K > 1 the gradient of the guide is a biased estimate of that of L_K (Tucker et al. 2019). That of the model
    is not.

    Args:
        num_samples: K, draws of the guide for each point.

    References:
        Roeder, Wu & Duvenaud (2017). Sticking the landing.
    """

    def along(self, weights: Tensor, beta: Any) -> Tensor:
        return weights


class DReG(PathGradient):
    """Doubly reparameterised gradients: the bound of `IWAE`, with paths weighted by c = w̃².

    The gradient is that of L_K without bias. Its signal-to-noise ratio grows as √K. In a KL warm-up the score counts
    β times, so c = (1 − β) w̃ + β w̃².

    Args:
        num_samples: K, draws of the guide for each point.

    References:
        Tucker, Lawson, Gu & Maddison (2019). Doubly reparameterized gradient estimators. Equation 8.
    """

    def along(self, weights: Tensor, beta: Any) -> Tensor:
        return weights * (1 - beta + beta * weights)
