"""q(z|x) over classes."""

import pyro.distributions as dist
from torch import Tensor

from .amortised import Amortised


class AmortisedCategorical(Amortised):
    """q(z|x) = Cat(softmax f(x)) over `latent` classes; its expectation is summed exactly by `TraceEnum_ELBO`."""

    infer = {"enumerate": "parallel"}  # noqa: RUF012

    @staticmethod
    def num_outputs(latent: int, **sizes: int) -> int:
        return latent

    def distribution(self, outputs: Tensor) -> dist.TorchDistribution:
        return dist.Categorical(logits=outputs)
