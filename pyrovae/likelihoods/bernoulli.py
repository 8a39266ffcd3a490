"""Likelihoods of binary pixels."""

import pyro.distributions as dist
import torch
from torch import Tensor

from ..distributions.bernoulli import Pixels
from ..errors import InvalidInputError
from .base import Likelihood


class Bernoulli(Likelihood):
    """x_d ~ Bernoulli(sigmoid(η_d)), x in {0, 1}: a probability, not a density."""

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        return Pixels(dist.Bernoulli(logits=eta), 1)

    def initial_outputs(self, mean: Tensor, variance: Tensor) -> Tensor:
        return torch.logit(mean.clamp(0.01, 0.99))  # a pixel never seen lit is not one that cannot be

    def m_step(self, mean: Tensor, variance: Tensor, fraction: Tensor) -> Tensor:
        return torch.logit(mean.clamp(1e-6, 1 - 1e-6))  # the maximum among finite η, to 1e-6 nats


class BernoulliMean(Likelihood):
    """x_d ~ Bernoulli(η_d), x in {0, 1}, of a decoder that ends in a sigmoid: η in [0, 1].

    Logits are the better output: an η that has rounded to 0 or to 1 is taken to the nearest (normal) number inside, and the two ends
    differ. In single precision 0 is 2⁻¹²⁶, 87 nats from certain where x is 1, and 1 is 1 − 2⁻²⁴, 17 nats where x is 0.

    Raises `InvalidInputError` at the first η that is no probability, if the pair's first run has one (later ones make the density nan), and where
    a pair's outputs start at the data's mean: what is free to move from there does not stay a probability. Pyrovae's own pairs
    return logits, for `Bernoulli`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = (
            False  # once, in the run that looks a pair over: later ones are recorded, and may not wait for numbers
        )

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        if not self.seen:
            self.check_logits(eta)
            self.seen = True
        info = torch.finfo(eta.dtype)
        inside = torch.where((eta < 0) | (eta > 1), torch.nan, eta.clamp(info.tiny, 1 - info.eps / 2))
        return Pixels(dist.Bernoulli(logits=torch.logit(inside)), 1)

    @staticmethod
    def check_logits(eta: Tensor) -> None:
        """Raises `InvalidInputError` where an η lies outside [0, 1]."""
        if bool(((eta < 0) | (eta > 1)).any()):
            raise InvalidInputError(
                f"The decoder returns {float(eta.min()):.3g} to {float(eta.max()):.3g}, and BernoulliMean reads probabilities: give "
                "Bernoulli(), which reads logits, or end the decoder in a sigmoid."
            )

    def initial_outputs(self, mean: Tensor, variance: Tensor) -> Tensor:
        raise InvalidInputError(
            "BernoulliMean reads probabilities, and this pair's outputs are free to leave [0, 1]: give Bernoulli(), which reads "
            "logits. BernoulliMean is for decoders that end in a sigmoid, in from_networks or a pair of your own."
        )
