"""Likelihoods of binary pixels."""

import pyro.distributions as dist
import torch
from torch import Tensor

from ..distributions.bernoulli import Pixels
from ..errors import InvalidInputError
from .base import Likelihood


class Bernoulli(Likelihood):
    """Binary pixels: x_d ~ Bernoulli(sigmoid(η_d)), x in {0, 1}.

    log p(x|z) is the logarithm of a probability, not of a density.
    """

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        return Pixels(dist.Bernoulli(logits=eta), 1)

    def initial_outputs(self, mean: Tensor, variance: Tensor) -> Tensor:
        return torch.logit(mean.clamp(0.01, 0.99))  # a pixel never seen lit is not one that cannot be

    def m_step(self, mean: Tensor, variance: Tensor, fraction: Tensor) -> Tensor:
        return torch.logit(mean.clamp(1e-6, 1 - 1e-6))  # the maximum among finite η, to 1e-6 nats


class BernoulliMean(Likelihood):
    """Binary pixels of a decoder that ends in a sigmoid: x_d ~ Bernoulli(η_d), η in [0, 1].

    `Bernoulli`, which reads logits, is more accurate. Here, an η that has rounded to 0 or 1 is moved to the nearest
    number inside. In single precision the two ends differ. An η of 0 becomes 2⁻¹²⁶, which costs 87 nats where x is 1.
    An η of 1 becomes 1 − 2⁻²⁴, which costs 17 nats where x is 0.

    Raises:
        InvalidInputError: In the first run of the pair, some η is no probability. In later runs the density is NaN.
        InvalidInputError: The outputs of the pair start at the mean of the data. Then η does not stay a probability.
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
        """Raise `InvalidInputError` where an η lies outside [0, 1]."""
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
