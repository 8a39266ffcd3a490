"""q(z|x) whose parameters are the outputs of one network: what guide families have in common, and what a new one derives from."""

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..errors import InvalidInputError, check_int
from ..missing import fill_missing, has_missing
from ..nn import EncoderMLP, Module, inverse_softplus


class Amortised(Module):
    """Guide q(z|x) whose parameters are the outputs of one network, which runs once for each x.

    A new family writes `num_outputs(latent)` and `distribution(outputs)`. A family with sizes of its own (a rank, a
    number of components) passes them on as named whole numbers. They come back in `num_outputs(latent, **sizes)` and
    as `self.sizes`.

    Args:
        dim: D, the size of one point x.
        latent: k, the size of z.
        hidden: Widths of the hidden layers of the default encoder, an `EncoderMLP`.
        encoder: Any module from x (N, D) to (N, `num_outputs(latent)`), in place of the default. It gets 0 for missing
            entries of x, unless it says `handles_missing = True`.
        site: The name of the latent.
        **sizes: The sizes of the family itself.
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
        super().__init__()
        for name, size in {"latent": latent, **sizes}.items():
            check_int(name, size, 1, shown=f"{name}={size} of {type(self).__name__}")
        self.latent, self.site, self.sizes = latent, site, sizes
        self.encoder = encoder if encoder is not None else EncoderMLP(dim, *hidden, self.num_outputs(latent, **sizes))

    @staticmethod
    def num_outputs(latent: int, **sizes: int) -> int:
        """Return how many numbers the encoder must give for each x."""
        raise NotImplementedError

    def distribution(self, outputs: Tensor) -> dist.TorchDistribution:
        """Return q(z|x), given the outputs of the encoder (N, `num_outputs(latent)`)."""
        raise NotImplementedError

    def encoder_outputs(self, x: Tensor) -> Tensor:
        """Return the outputs of the encoder at x (N, D), which may have missing entries."""
        handles_missing = getattr(self.encoder, "handles_missing", False)
        return self.encoder(fill_missing(x) if has_missing(x) and not handles_missing else x)

    def forward(self, x: Tensor) -> None:
        outputs = self.encoder_outputs(x)
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
    """Map any number to σ > 0. It is 1 at 0, so the guide begins with the width of the prior."""
    return softplus(raw + inverse_softplus(torch.ones_like(raw))) + 1e-6


def lower(packed: Tensor, latent: int) -> Tensor:
    """Return L (*batch, k, k), lower triangular with a positive diagonal.

    It is made of k(k+1)/2 numbers: first the diagonal, then what is below it.
    """
    diagonal, below = packed[..., :latent], packed[..., latent:]
    matrix = torch.diag_embed(positive(diagonal))
    row, column = torch.tril_indices(latent, latent, offset=-1, device=packed.device)
    matrix[..., row, column] = below
    return matrix
