"""q(z|x) over classes."""

import pyro.distributions as dist
from torch import Tensor

from .amortised import Amortised


class AmortisedCategorical(Amortised):
    """Guide q(z|x) = Cat(softmax f(x)) over `latent` classes.

    `TraceEnum_ELBO` sums its expectation exactly. Arguments are those of `Amortised`.
    """

    infer = {"enumerate": "parallel"}  # noqa: RUF012

    @staticmethod
    def num_outputs(latent: int, **sizes: int) -> int:
        return latent

    def distribution(self, outputs: Tensor) -> dist.TorchDistribution:
        return dist.Categorical(logits=outputs)
