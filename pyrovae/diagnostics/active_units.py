"""What each latent of a pair does: how far its posterior mean moves with x, and which of its classes are used."""

from dataclasses import dataclass

import torch
from torch import Tensor


def activity(means: Tensor) -> tuple[Tensor, Tensor]:
    """A = Var_x(E_q[z|x]) and its standard error over points. (S, N, D) → two (D,).

    `means` is E_q[z|x] in every row s where that is known, and a draw of it elsewhere. The part of the variance that
    comes from the draws, their variance at a point / S, is subtracted. So A of a dead unit may be a little below 0.
    Burda, Grosse & Salakhutdinov 2016, §5.2, where a unit is active if A > 0.01. The divisors are N − 1 and S − 1.
    """
    num_samples, points, _ = means.shape
    centre = means.mean(0)
    noise = means.var(0) / num_samples if num_samples > 1 else torch.zeros_like(centre)
    square = (centre - centre.mean(0)).square() * points / (points - 1) - noise
    return square.mean(0), square.std(0) / points**0.5


@dataclass(frozen=True)
class ClassUsage:
    """One discrete latent: how often its classes are used. `used` and `prior` are (D, K) for D such latents of K classes."""

    used: Tensor  # q(z = k), the mean of q(z = k|x_n) over points
    prior: Tensor  # p(z = k)

    @property
    def entropy(self) -> Tensor:
        """H(q(z)) in nats, (D,)."""
        return torch.special.entr(self.used).sum(-1)

    @property
    def perplexity(self) -> Tensor:
        """The effective number of classes exp H(q(z)), between 1 and K: (D,)."""
        return self.entropy.exp()
