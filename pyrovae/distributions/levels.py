"""Distributions over a pixel's own levels, 0/L, 1/L, …."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


class LevelConstraint(dist.constraints.Constraint):
    """x = j/(L − 1) for a whole j from 0 to L − 1, to a hundredth of a level."""

    is_discrete = True
    event_dim = 0

    def __init__(self, levels: int):
        self.levels = levels

    def check(self, value: Tensor) -> Tensor:
        level = value * (self.levels - 1)
        return (value >= 0) & (value <= 1) & ((level - level.round()).abs() < 0.01)


class LevelDistribution(dist.TorchDistribution):
    """A distribution over L levels with parameters (*batch, n): `log_probs()` is (*batch, L)."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own protocol)

    def __init__(self, levels: int, parameters: Tensor):
        self.levels, self.parameters = levels, parameters
        super().__init__(parameters.shape[:-1], validate_args=False)

    @property
    def support(self) -> LevelConstraint:
        return LevelConstraint(self.levels)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "LevelDistribution":
        return type(self)(self.levels, self.parameters.expand(*batch_shape, self.parameters.shape[-1]))

    def level(self, value: Tensor) -> Tensor:
        """j of x = j/(L − 1), a whole number in floating point."""
        return (value * (self.levels - 1)).round()

    def log_probs(self) -> Tensor:
        """log P(j) for every level j: (*batch, L)."""
        grid = torch.arange(self.levels, device=self.parameters.device).to(self.parameters) / (self.levels - 1)
        return self.log_prob(grid.reshape(-1, *(1 for _ in self.batch_shape))).movedim(0, -1)

    @property
    def mean(self) -> Tensor:
        grid = torch.arange(self.levels, device=self.parameters.device).to(self.parameters) / (self.levels - 1)
        return self.log_probs().exp() @ grid


class CategoricalLevels(LevelDistribution):
    """P(j) = softmax(η)_j."""

    def log_probs(self) -> Tensor:
        return self.parameters.log_softmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        index = self.level(value).long().clamp(0, self.levels - 1).expand(shape).unsqueeze(-1)
        return self.log_probs().expand(*shape, -1).gather(-1, index).squeeze(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        drawn = torch.distributions.Categorical(logits=self.parameters).sample(torch.Size(sample_shape))
        return drawn.to(self.parameters) / (self.levels - 1)


class LogisticLevels(LevelDistribution):
    """P(j) = Σ_m π_m [S((j + ½ − μ_m)/s_m) − S((j − ½ − μ_m)/s_m)], where S is the sigmoid.

    The outermost bins reach to ±∞. Parameters are the logits of π, μ in units of x, and log s in levels, M numbers
    each.

    log[S(a) − S(b)] = log S(a) + log S(−b) + log(1 − e^{b−a}). It has no difference of nearly equal numbers in either
    tail.

    References:
        Salimans et al. (2017). PixelCNN++. Equation 2.
    """

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        logits, loc, log_scale = self.parameters.chunk(3, dim=-1)
        return logits.log_softmax(-1), loc * (self.levels - 1), log_scale

    def log_prob(self, value: Tensor) -> Tensor:
        log_share, loc, log_scale = self.parts()
        level = self.level(value).unsqueeze(-1)
        sharpness = (-log_scale).exp()
        a, b = (level + 0.5 - loc) * sharpness, (level - 0.5 - loc) * sharpness
        first, last = level <= 0, level >= self.levels - 1
        log_s_a = torch.where(last, 0.0, logsigmoid(a))
        log_s_b = torch.where(first, 0.0, logsigmoid(-b))
        between = torch.where(first | last, 0.0, torch.log(-torch.expm1(-sharpness)))
        return (log_share + log_s_a + log_s_b + between).logsumexp(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        with torch.no_grad():
            log_share, loc, log_scale = (part.expand(*shape, -1) for part in self.parts())
            which = torch.distributions.Categorical(logits=log_share).sample().unsqueeze(-1)
            loc, log_scale = (part.gather(-1, which).squeeze(-1) for part in (loc, log_scale))
            noise = torch.logit(torch.rand_like(loc).clamp(1e-7, 1 - 1e-7))
            level = (loc + log_scale.exp() * noise).round().clamp(0, self.levels - 1)
            return level / (self.levels - 1)
