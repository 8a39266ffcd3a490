"""What `sample_posterior` returns: modes, means, covariances and draws of each latent, by its site's name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InvalidInputError, did_you_mean
from ..statistics.result import PointwiseResult


@dataclass(frozen=True)
class PosteriorModes:
    """The modes that were found of each point's posterior, highest first: tensors on the CPU.

    They are the maxima of log p(x, u), where u are the latents, unconstrained. A maximum depends on such a choice of
    coordinates. For a positive latent z = exp(u) the density p(x, u) = p(x, z) dz/du has its maximum elsewhere than
    p(x, z). M is the largest number of modes of any point. Where a point has fewer, `exists` is False and the numbers
    are NaN.
    """

    latents: dict[str, Tensor]  # (M, N, *event) for each latent, in its own space
    log_density: Tensor  # (M, N), log p(x, u) there, nats
    mass_share: Tensor  # (M, N), the mode's share of p(x) by Laplace's method
    exists: Tensor  # (M, N)
    at_rest: Tensor  # (M, N), whether Newton's steps came to an end there; they do not at a kink
    share_found_once: Tensor  # (N,), of the starts, those that end where no other comes near

    @property
    def count(self) -> Tensor:
        """How many modes each point has: (N,)."""
        return self.exists.sum(0)

    @classmethod
    def concatenate(cls, parts: list["PosteriorModes"]) -> "PosteriorModes":
        """The modes of all points of all parts, which may have found different numbers of them."""
        most = max(len(part.exists) for part in parts)

        def padded(values: list[Tensor], fill: float) -> Tensor:
            rows = [value.new_full((most - len(value), *value.shape[1:]), fill) for value in values]
            return torch.cat([torch.cat(pair) for pair in zip(values, rows, strict=True)], dim=1)

        return cls(
            {name: padded([part.latents[name] for part in parts], torch.nan) for name in parts[0].latents},
            padded([part.log_density for part in parts], torch.nan),
            padded([part.mass_share for part in parts], torch.nan),
            padded([part.exists for part in parts], False),
            padded([part.at_rest for part in parts], False),
            torch.cat([part.share_found_once for part in parts]),
        )


@dataclass(frozen=True, repr=False)
class PosteriorResult(PointwiseResult):
    """What `sample_posterior` found, point by point: tensors on the CPU.

    `weighted_draws` and `weights` are K draws about the modes and their self-normalised weights. `means`, `means_se` and
    `covariances` follow from them directly; `draws` are resampled. All are dictionaries by the site's name, and shapes have
    *event, the dimensions of one point's latent, its inner plates first.
    """

    labels: ClassVar[Mapping[str, str]] = {"log_likelihood": "importance sampling about the modes"}
    other_values: ClassVar[tuple[str, ...]] = ("ess", "largest_weight", "num_modes")

    means: dict[str, Tensor]  # (N, *event), E[z|x], double precision
    means_se: dict[str, Tensor]  # (N, *event), their standard errors over the draws
    covariances: dict[str, Tensor]  # (N, *event, *event), Cov[z|x], double precision; of a scalar the variance, (N,)
    modes: PosteriorModes
    weighted_draws: dict[str, Tensor]  # (K, N, *event)
    weights: Tensor  # (K, N), each column sums to 1
    resampled: Tensor  # (K, N), the row of `weighted_draws` that each draw copies
    log_likelihood: Tensor  # (N,), nats, by the same weights
    log_likelihood_se: Tensor
    ess: Tensor  # (N,), effective sample size, of K
    seconds: float
    metadata: dict[str, Any]

    def __repr__(self) -> str:
        low, high = float(self.ess.min()), float(self.ess.max())
        return (
            f"PosteriorResult({len(self)} points: {', '.join(self.means)}; {len(self.weights)} draws, "
            f"ESS {low:.0f} to {high:.0f}; {int(self.num_modes.min())} to {int(self.num_modes.max())} modes)"
        )

    @property
    def largest_weight(self) -> Tensor:
        """The largest share of the weight that one draw has: (N,)."""
        return self.weights.amax(0)

    @property
    def num_modes(self) -> Tensor:
        """How many modes were found: (N,)."""
        return self.modes.count

    @property
    def bounds(self) -> Mapping[str, str]:
        return {"log_likelihood": "lower"}

    def draws(self, name: str) -> Tensor:
        """Draws of one latent from the posterior, in its own space and of equal weight: (K, N, *event).

        They are resampled, systematically: draw k of a point is repeated ⌊K w_k⌋ or ⌈K w_k⌉ times, in random order (Kitagawa
        1996). So some repeat, and they are worth `ess` independent draws. Draws of two latents in the same row belong together.

        Args:
            name: The latent's site.

        Raises:
            InvalidInputError: There is no such continuous latent.
        """
        if name not in self.weighted_draws:
            raise InvalidInputError(
                f"There are no draws of '{name}'{did_you_mean(name, self.weighted_draws)}: "
                f"give one of {', '.join(self.weighted_draws)}."
            )
        values = self.weighted_draws[name]
        return values[self.resampled, torch.arange(values.shape[1])]

    def summary(self) -> dict[str, Any]:
        """How many of the draws count."""
        return {"mean_ess": float(self.ess.mean()), "smallest_ess": float(self.ess.min())}

    def datasets(self) -> dict[str, Any]:
        """Return the groups of `to_arviz`.

        `posterior` has the resampled draws over chain, draw, point and NAME_dim_0, …
        """
        import xarray

        variables = {}
        for name in self.weighted_draws:
            values = self.draws(name).unsqueeze(0)
            dims = [f"{name}_dim_{axis}" for axis in range(values.dim() - 3)]
            variables[name] = (["chain", "draw", "point", *dims], values.numpy())
        coords = {"chain": [0], "draw": range(len(self.weights)), "point": range(len(self))}
        return {"posterior": xarray.Dataset(variables, coords=coords), **super().datasets()}
