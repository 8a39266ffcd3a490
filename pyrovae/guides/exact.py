"""q(z|x) = p(z|x), where the model knows it."""

from typing import Protocol

import pyro
import pyro.distributions as dist
from torch import Tensor


class HasPosterior(Protocol):
    """A model whose posterior p(z|x) is known."""

    def posterior(self, x: Tensor) -> dist.TorchDistribution: ...


class ExactPosterior:
    """Guide q(z|x) = p(z|x), from a model that has `posterior(x)`.

    The gap is zero, and every log-weight equals log p(x). The guide has no parameters of its own: gradients reach
    those of the model. The pathwise gradient of the ELBO is then that of log p(x), without variance.

    Args:
        model: A model with a method `posterior(x)`, which returns p(z|x) for points x (N, D).
        site: The name of the latent.
    """

    def __init__(self, model: HasPosterior, *, site: str = "z"):
        self.model, self.site = model, site

    def __call__(self, x: Tensor) -> None:
        posterior = self.model.posterior(x)
        infer = {"enumerate": "parallel"} if posterior.has_enumerate_support else {}
        with pyro.plate("data", len(x)):
            pyro.sample(self.site, posterior, infer=infer)
