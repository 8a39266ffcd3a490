"""Wake–sleep: the guide learns from the model's dreams, and needs no gradient through draws."""

import torch
from torch import Tensor

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide
from ..pair.structure import Structure
from ..statistics.log_weights import log_likelihood
from .base import Objective, Terms, check_num_samples
from .log_densities import detach_draws, draw, sleep_phase_log_q


class WakeSleep(Objective):
    """Wake–sleep: the model follows the gradient of L_K, and the guide learns from draws.

    The guide maximises (1 − ι) E_p(x,z)[log q(z|x)] + ι Σ_s w̃_s log q(z_s|x). The first term uses draws (x, z) of
    the model, the second uses draws of the guide by their normalised weights. Latents need no reparameterisation.

    It is Pyro's `ReweightedWakeSleep` for pairs of `guide(x)`. Here each point has weights of its own, where Pyro
    multiplies over the batch. The value is −L_K. Two functions are maximised, so no single one must rise. With
    parameters that model and guide share, the step is the gradient of neither.

    Args:
        num_samples: K, draws of the guide for each point.
        insomnia: ι, between 0 and 1.

    References:
        Hinton, Dayan, Frey & Neal (1995). The wake-sleep algorithm. Here ι = 0 and K = 1.
        Bornschein & Bengio (2015). Reweighted wake-sleep.
        Le et al. (2020). Revisiting reweighted wake-sleep.
    """

    def __init__(self, num_samples: int = 1, insomnia: float = 0.0):
        super().__init__()
        self.num_samples = check_num_samples(num_samples)
        if not 0 <= insomnia <= 1:
            raise InvalidInputError(
                f"insomnia is {insomnia}: give the wake phase's share in the guide's gradient, 0 to 1."
            )
        self.insomnia = float(insomnia)

    def batch(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure) -> Terms:
        draws = draw(model, guide, x, self.num_samples, structure.max_plate_nesting, detach_draws())
        log_w = draws.log_p - draws.beta * draws.log_q.detach()
        loss = -log_likelihood(log_w).sum()
        if not torch.is_grad_enabled():
            return draws.terms(loss)
        climbed = loss.new_zeros(())
        if self.insomnia > 0:
            climbed = climbed + self.insomnia * (log_w.detach().softmax(dim=0) * draws.log_q).sum()
        if self.insomnia < 1:
            climbed = (
                climbed + (1 - self.insomnia) * sleep_phase_log_q(model, guide, x, structure.max_plate_nesting).sum()
            )
        return draws.terms(loss - (climbed - climbed.detach()))

    def hyperparameters(self) -> tuple[float, ...]:
        return self.num_samples, self.insomnia
