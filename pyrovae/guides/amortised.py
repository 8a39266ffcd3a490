"""q(z|x) whose parameters are the outputs of one network: what guide families have in common, and what a new one derives from."""

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..errors import InvalidInputError, check_int
from ..nn import EncoderMLP, Module, inverse_softplus


class Amortised(Module):
    """q(z|x) whose parameters are the outputs of one network, run once for each x.

    A family writes `num_outputs(latent)` and `distribution(outputs)`. One with sizes of its own (a rank, a number of components)
    passes them on as named whole numbers, and gets them back in `num_outputs(latent, **sizes)` and as `self.sizes`.
    """

    infer: dict[str, Any] = {}  # noqa: RUF012 (what Pyro is told of the site)

    def __init__(
        self,
        dim: int,
        latent: int,
        hidden: Sequence[int] = (200, 200),
        *,
        encoder: nn.Module | None = None,
        site: str = "z",
        **sizes: int,
    ):
        """`encoder` is any module from x (N, dim) to (N, `num_outputs(latent)`); without one, an `EncoderMLP` of `hidden` widths."""
        super().__init__()
        for name, size in {"latent": latent, **sizes}.items():
            check_int(name, size, 1, shown=f"{name}={size} of {type(self).__name__}")
        self.latent, self.site, self.sizes = latent, site, sizes
        self.encoder = encoder if encoder is not None else EncoderMLP(dim, *hidden, self.num_outputs(latent, **sizes))

    @staticmethod
    def num_outputs(latent: int, **sizes: int) -> int:
        """How many numbers the encoder must return for each x."""
        raise NotImplementedError

    def distribution(self, outputs: Tensor) -> dist.TorchDistribution:
        """q(z|x) from the encoder's outputs (N, `num_outputs(latent)`)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> None:
        outputs = self.encoder(x)
        expected = (len(x), self.num_outputs(self.latent, **self.sizes))
        if outputs.shape != expected:
            sizes_given = ", ".join([str(self.latent), *(f"{name}={size}" for name, size in self.sizes.items())])
            raise InvalidInputError(
                f"The encoder returns {tuple(outputs.shape)} where {type(self).__name__}(latent={sizes_given}) needs "
                f"{expected}: give it {expected[1]} outputs, {type(self).__name__}.num_outputs({sizes_given})."
            )
        with pyro.plate("data", len(x)):
            pyro.sample(self.site, self.distribution(outputs), infer=self.infer)


def positive(raw: Tensor) -> Tensor:
    """σ > 0 from any number, 1 at 0: the guide begins at the prior's width."""
    return softplus(raw + inverse_softplus(torch.ones_like(raw))) + 1e-6


def lower(packed: Tensor, latent: int) -> Tensor:
    """L (*batch, k, k), lower triangular with a positive diagonal, from k(k+1)/2 numbers: first the diagonal, then below."""
    diagonal, below = packed[..., :latent], packed[..., latent:]
    matrix = torch.diag_embed(positive(diagonal))
    row, column = torch.tril_indices(latent, latent, offset=-1, device=packed.device)
    matrix[..., row, column] = below
    return matrix
