"""q of each point by itself: no network between a point and its q, so no amortisation gap."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidInputError
from ..nn import Module
from .amortised import Amortised
from .gaussian import MeanField


class _Table(nn.Module):
    """A row of numbers for each of `num_points` points, whatever the points are: the n-th row is the n-th point's."""

    def __init__(self, rows: Tensor):
        super().__init__()
        self.rows = nn.Parameter(rows.clone())

    def forward(self, x: Tensor) -> Tensor:
        if len(x) != len(self.rows):
            raise InvalidInputError(
                f"The guide has parameters for each of {len(self.rows)} points, and is given {len(x)}: give it those points, all "
                "of them and in their order (fit with batch_size=None)."
            )
        return self.rows


class PerPoint(Module):
    """Guide with parameters of its own for each point, so that there is no amortisation gap.

    It belongs to its points and their order. Fit it on all of them (`batch_size=None`) and evaluate the same points.
    Points still share the parameters that the family shares, such as the networks of a flow.

    Args:
        num_points: N, the number of points.
        latent: k, the size of z.
        family: Any amortised family, for example `FullCovariance`.
        **given: As for the family.
    """

    def __init__(self, num_points: int, latent: int, family: type[Amortised] = MeanField, **given: Any):
        super().__init__()
        if not isinstance(num_points, int) or num_points < 1:
            raise InvalidInputError(f"num_points={num_points} of PerPoint: give the number of points, at least 1.")
        self.family = family(1, latent, (), **given)
        outputs = family.num_outputs(latent, **self.family.sizes)
        start = 0.01 * torch.randn(num_points, outputs)  # components of a mixture must differ to part
        self.family.encoder = _Table(start)

    @classmethod
    def starting_at(cls, guide: Amortised, x: Tensor) -> "PerPoint":
        """Start from an amortised guide: its family, and the outputs of its encoder at each x.

        What training then gains is what the encoder lost.

        Args:
            guide: The amortised guide.
            x: The points (N, D).

        Returns:
            A guide for these points.

        References:
            Kim et al. (2018). Semi-amortized variational autoencoders.
        """
        with torch.no_grad():
            rows = guide.encoder_outputs(x)
        own = cls.__new__(cls)
        Module.__init__(own)
        own.family = _with_encoder(guide, _Table(rows))
        return own

    def forward(self, x: Tensor) -> None:
        self.family(x)


def _with_encoder(guide: Amortised, encoder: nn.Module) -> Amortised:
    """A copy of the guide that shares nothing with it, with another encoder."""
    sizes: dict[str, Any] = guide.sizes
    fresh = type(guide)(1, guide.latent, (), site=guide.site, **sizes)
    fresh.encoder = encoder
    fresh.to(next(encoder.parameters()))
    rest = {name: value for name, value in guide.state_dict().items() if not name.startswith("encoder.")}
    fresh.load_state_dict(copy.deepcopy(rest), strict=False)
    return fresh
