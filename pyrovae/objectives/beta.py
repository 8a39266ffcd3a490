"""A weight on the KL: fixed (`Beta`), or rising while training begins (`warm_up`, fit's `kl_warmup_fraction`)."""

from typing import Any

from pyro import poutine
from pyro.infer import ELBO
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide
from ..pair.structure import Structure, inspect_pair
from .base import LossOf, Objective, Terms, check_number
from .elbo import default_objective, differentiable_loss


class warm_up(Messenger):
    """Weigh the latents of model and guide by β: log p(x|z) − β KL.

    β is a tensor that a recorded step reads again each time. Only training uses this. Reported ELBOs and log-
    likelihoods never do.
    """

    def __init__(self, beta: Tensor | float):
        super().__init__()
        self.beta = beta

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and not site_is_subsample(msg):
            msg["scale"] = msg["scale"] * self.beta


class Beta(Objective):
    """E_q[log p(x|z)] − β KL(q(z|x) ‖ p(z)). It is the ELBO at β = 1.

    It is no bound on log p(x) for β < 1, and a looser one for β > 1. The estimator is that of `default_objective`.

    Args:
        beta: β, the weight of the KL.

    References:
        Higgins et al. (2017). beta-VAE. Equation 4.
    """

    def __init__(self, beta: float):
        super().__init__()
        self.beta = check_number("beta", beta)

    def bind(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure) -> LossOf | str:
        self.check(structure)
        of = differentiable_loss(default_objective(structure), model, guide, x, structure)
        return of if isinstance(of, str) else lambda model, guide, x: self._weighted(of, model, guide, x)

    def batch(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure) -> Terms:
        of = self.bind(model, guide, x, structure)
        if isinstance(of, str):
            raise InvalidInputError(
                f"{self!r} has no loss that can be differentiated here, because {of}: train by fit or SVI."
            )
        return of(model, guide, x)

    def _weighted(self, of: LossOf, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> Terms:
        with warm_up(self.beta):
            terms = of(model, guide, x)
        kl = (terms.loss + terms.reconstruction) / self.beta if self.beta else terms.loss * float("nan")
        return Terms(terms.loss, terms.reconstruction, kl)

    def loss(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> float:
        chosen = self._chosen(model, guide, x)
        with warm_up(self.beta):
            return chosen.loss(model, guide, x)

    def loss_and_grads(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> float:
        """Compute loss and gradients by Pyro's own object, which can use score functions too."""
        chosen = self._chosen(model, guide, x)
        with warm_up(self.beta):
            return chosen.loss_and_grads(model, guide, x)

    def _chosen(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> ELBO:
        with poutine.block():
            structure = inspect_pair(model, guide, x)
        self.check(structure)
        return default_objective(structure)

    def hyperparameters(self) -> tuple[float, ...]:
        return (self.beta,)
