"""Guide families q(z|x) that any model can wear: `guide(x)` names the latent `z` inside `plate("data")`, and nothing else.

| guide | q(z|x) | for a latent |
|---|---|---|
| `MeanField` | N(μ(x), diag σ²(x)), networks of x | in R^k |
| `FullCovariance` | N(μ(x), L(x) L(x)ᵀ), networks of x | in R^k |
| `LinearGaussian` | N(Ax + b, L Lᵀ), one L for all x | in R^k |
| `AmortisedCategorical` | Cat(softmax f(x)) | among K classes |
| `ExactPosterior` | p(z|x) itself | whose model has `posterior(x)` |
"""

from collections.abc import Sequence
from typing import Any, Protocol

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .errors import Refusal
from .nets import MLP, Module, inverse_softplus


class _Amortised(Module):
    """q(z|x) whose parameters are the outputs of one network, run once for each x."""

    def __init__(
        self,
        dim: int,
        latent: int,
        hidden: Sequence[int] = (200, 200),
        *,
        encoder: nn.Module | None = None,
        site: str = "z",
    ):
        """`encoder` is any module from x (N, dim) to (N, `outputs(latent)`); without one, an `MLP` of `hidden` widths."""
        super().__init__()
        self.latent, self.site = latent, site
        self.encoder = encoder if encoder is not None else MLP(dim, *hidden, self.outputs(latent))

    @staticmethod
    def outputs(latent: int) -> int:
        """How many numbers the encoder must return for each x."""
        raise NotImplementedError

    def posterior(self, outputs: Tensor) -> dist.TorchDistribution:
        """q(z|x) from the encoder's outputs (N, `outputs(latent)`)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> None:
        outputs = self.encoder(x)
        expected = (len(x), self.outputs(self.latent))
        if outputs.shape != expected:
            raise Refusal(
                f"The encoder returns {tuple(outputs.shape)} where {type(self).__name__}(latent={self.latent}) needs "
                f"{expected}: give it {expected[1]} outputs, {type(self).__name__}.outputs({self.latent})."
            )
        with pyro.plate("data", len(x)):
            pyro.sample(self.site, self.posterior(outputs), infer=self.infer)

    infer: dict[str, Any] = {}  # noqa: RUF012 (what Pyro is told of the site)


class MeanField(_Amortised):
    """q(z|x) = N(μ(x), diag σ²(x)). Kingma & Welling 2014, appendix C."""

    @staticmethod
    def outputs(latent: int) -> int:
        return 2 * latent

    def posterior(self, outputs: Tensor) -> dist.TorchDistribution:
        loc, rho = outputs.chunk(2, dim=-1)
        return dist.Normal(loc, _positive(rho)).to_event(1)


class FullCovariance(_Amortised):
    """q(z|x) = N(μ(x), L(x) L(x)ᵀ), L lower triangular with a positive diagonal."""

    @staticmethod
    def outputs(latent: int) -> int:
        return latent + latent * (latent + 1) // 2

    def posterior(self, outputs: Tensor) -> dist.TorchDistribution:
        return dist.MultivariateNormal(
            outputs[..., : self.latent], scale_tril=_lower(outputs[..., self.latent :], self.latent)
        )


class LinearGaussian(Module):
    """q(z|x) = N(Ax + b, L Lᵀ): the family that holds the posterior of every linear Gaussian model."""

    def __init__(self, dim: int, latent: int, *, site: str = "z"):
        super().__init__()
        self.latent, self.site = latent, site
        self.encoder = MLP(dim, latent)
        self.packed = nn.Parameter(torch.zeros(latent * (latent + 1) // 2))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample(
                self.site, dist.MultivariateNormal(self.encoder(x), scale_tril=_lower(self.packed, self.latent))
            )


class AmortisedCategorical(_Amortised):
    """q(z|x) = Cat(softmax f(x)) over `latent` classes; its expectation is summed exactly by `TraceEnum_ELBO`."""

    infer = {"enumerate": "parallel"}  # noqa: RUF012

    @staticmethod
    def outputs(latent: int) -> int:
        return latent

    def posterior(self, outputs: Tensor) -> dist.TorchDistribution:
        return dist.Categorical(logits=outputs)


class HasPosterior(Protocol):
    """A model whose p(z|x) is known."""

    def posterior(self, x: Tensor) -> dist.TorchDistribution: ...


class ExactPosterior:
    """q(z|x) = p(z|x), from a model that has `posterior(x)`: the gap is zero and every log-weight equals log p(x).

    It has no parameters of its own: gradients reach the model's, and the pathwise gradient of the ELBO is then that of
    log p(x), without variance.
    """

    def __init__(self, model: HasPosterior, *, site: str = "z"):
        self.model, self.site = model, site

    def __call__(self, x: Tensor) -> None:
        posterior = self.model.posterior(x)
        infer = {"enumerate": "parallel"} if posterior.has_enumerate_support else {}
        with pyro.plate("data", len(x)):
            pyro.sample(self.site, posterior, infer=infer)


def _positive(raw: Tensor) -> Tensor:
    """σ > 0 from any number, 1 at 0: the guide begins at the prior's width."""
    return softplus(raw + inverse_softplus(torch.ones_like(raw))) + 1e-6


def _lower(packed: Tensor, latent: int) -> Tensor:
    """L (*batch, k, k), lower triangular with a positive diagonal, from k(k+1)/2 numbers: first the diagonal, then below."""
    diagonal, below = packed[..., :latent], packed[..., latent:]
    matrix = torch.diag_embed(_positive(diagonal))
    row, column = torch.tril_indices(latent, latent, offset=-1, device=packed.device)
    matrix[..., row, column] = below
    return matrix
