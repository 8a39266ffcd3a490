"""p(x|z) of grey pixels: probabilities of their levels, densities on [0, 1], and a density with heavy tails.

| likelihood | x_d given η | x | measure |
|---|---|---|---|
| `Categorical` | a probability for each level | levels | counting |
| `DiscretisedLogistic` | a logistic's mass in each level's bin | levels | counting |
| `LogisticMixture` | a mixture of those | levels | counting |
| `ContinuousBernoulli` | ∝ λ^x (1 − λ)^(1−x) | [0, 1] | Lebesgue |
| `StudentT` | t_ν(μ, σ) | R | Lebesgue |

Levels are 0, 1, …, L − 1, divided by L − 1 as `transforms.Levels` does: a network then sees numbers in [0, 1].
"""

import math

import pyro.distributions as dist
import torch
from torch import Tensor

from ..distributions.levels import CategoricalLevels, LevelDistribution, LogisticLevels
from ..errors import InvalidInputError
from .base import Likelihood


class OverLevels(Likelihood):
    """Base of the likelihoods of levels. Each pixel has `numbers` of η, next to one another.

    Args:
        levels: L, how many levels a pixel can have.
    """

    beside = True
    family: type[LevelDistribution]
    numbers: int

    def __init__(self, levels: int = 256):
        super().__init__()
        if not isinstance(levels, int) or levels < 2:
            raise InvalidInputError(
                f"levels={levels}: give the number of a pixel's levels, at least 2 (256 for bytes)."
            )
        self.levels = levels

    def num_outputs(self, dim: int) -> int:
        return dim * self.numbers

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        return self.family(self.levels, eta.unflatten(-1, (-1, self.numbers))).to_event(1)


class Categorical(OverLevels):
    """Levels of pixels: P(x_d = j/(L − 1)) = softmax(η_d)_j.

    Each pixel has L numbers of η. The family does not know that neighbouring levels are alike.

    Args:
        levels: L, how many levels a pixel can have.
    """

    family = CategoricalLevels

    def __init__(self, levels: int = 256):
        super().__init__(levels)
        self.numbers = levels

    def initial_outputs(self, mean: Tensor, variance: Tensor) -> Tensor:
        grid = torch.arange(self.levels, device=mean.device).to(mean) / (self.levels - 1)
        width = variance.clamp(min=0.25 / (self.levels - 1) ** 2).unsqueeze(-1)
        logits = -0.5 * (grid - mean.unsqueeze(-1)).square() / width
        return logits.log_softmax(-1).clamp(min=-14).flatten(-2)  # a level never seen is not one that cannot be


class LogisticMixture(OverLevels):
    """Levels of pixels: P(x_d = j/(L − 1)) is the mass that a mixture of logistics has in the bin of level j.

    Args:
        levels: L, how many levels a pixel can have.
        count: How many logistics are mixed.

    References:
        Salimans et al. (2017). PixelCNN++.
    """

    family = LogisticLevels

    def __init__(self, levels: int = 256, count: int = 5):
        super().__init__(levels)
        if not isinstance(count, int) or count < 1:
            raise InvalidInputError(f"count={count}: give the number of logistics, at least 1.")
        self.count, self.numbers = count, 3 * count

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        logits, loc, log_scale = eta.unflatten(-1, (-1, 3 * self.count)).chunk(3, dim=-1)
        # a logistic much narrower than a level has no gradient left, and one of no width no logarithm
        return self.family(self.levels, torch.cat([logits, loc, log_scale.clamp(-4, 10)], dim=-1)).to_event(1)

    def initial_outputs(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Place the logistics next to one another about the mean, within a standard deviation."""
        deviation = variance.clamp(min=0.25 / (self.levels - 1) ** 2).sqrt().unsqueeze(-1)
        place = torch.linspace(-1, 1, self.count + 2, device=mean.device)[1:-1].to(mean)
        loc = mean.unsqueeze(-1) + place * deviation
        log_scale = (deviation * (self.levels - 1) * 3**0.5 / math.pi).log().expand_as(loc)
        return torch.cat([torch.zeros_like(loc), loc, log_scale], dim=-1).flatten(-2)


class DiscretisedLogistic(LogisticMixture):
    """Levels of pixels: P(x_d = j/(L − 1)) is the mass that one logistic has in the bin of level j.

    Args:
        levels: L, how many levels a pixel can have.

    References:
        Kingma et al. (2016). Improved variational inference with inverse autoregressive flow. Section 5.1.
    """

    def __init__(self, levels: int = 256):
        super().__init__(levels, count=1)
