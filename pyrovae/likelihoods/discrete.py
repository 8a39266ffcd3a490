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
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from ..errors import Refusal
from ..nn import inverse_softplus
from .base import Likelihood, checked_floor


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
    """P(j) = Σ_m π_m [S((j + ½ − μ_m)/s_m) − S((j − ½ − μ_m)/s_m)], S the sigmoid, the outermost bins reaching to ±∞ (Salimans et al.
    2017, eq. 2). Parameters are (π's logits, μ in units of x, log s in levels), M numbers each.

    log[S(a) − S(b)] = log S(a) + log S(−b) + log(1 − e^{b−a}): no difference of near-equal numbers in either tail.
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


class OverLevels(Likelihood):
    """What likelihoods of levels share: each pixel has `numbers` of η beside one another."""

    family: type[LevelDistribution]
    numbers: int

    def __init__(self, levels: int = 256):
        super().__init__()
        if not isinstance(levels, int) or levels < 2:
            raise Refusal(f"levels={levels}: give the number of a pixel's levels, at least 2 (256 for bytes).")
        self.levels = levels

    def outputs(self, dim: int) -> int:
        return dim * self.numbers

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        return self.family(self.levels, eta.unflatten(-1, (-1, self.numbers))).to_event(1)


class Categorical(OverLevels):
    """P(x_d = j/(L − 1)) = softmax(η_d)_j: L numbers of η for a pixel, and no notion that neighbouring levels are alike."""

    family = CategoricalLevels

    def __init__(self, levels: int = 256):
        super().__init__(levels)
        self.numbers = levels

    def start(self, mean: Tensor, variance: Tensor) -> Tensor:
        grid = torch.arange(self.levels, device=mean.device).to(mean) / (self.levels - 1)
        width = variance.clamp(min=0.25 / (self.levels - 1) ** 2).unsqueeze(-1)
        logits = -0.5 * (grid - mean.unsqueeze(-1)).square() / width
        return logits.log_softmax(-1).clamp(min=-14).flatten(-2)  # a level never seen is not one that cannot be


class LogisticMixture(OverLevels):
    """P(x_d = j/(L − 1)) the mass of a mixture of `count` logistics in level j's bin (PixelCNN++; Salimans et al. 2017)."""

    family = LogisticLevels

    def __init__(self, levels: int = 256, count: int = 5):
        super().__init__(levels)
        if not isinstance(count, int) or count < 1:
            raise Refusal(f"count={count}: give the number of logistics, at least 1.")
        self.count, self.numbers = count, 3 * count

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        logits, loc, log_scale = eta.unflatten(-1, (-1, 3 * self.count)).chunk(3, dim=-1)
        # a logistic much narrower than a level has no gradient left, and one of no width no logarithm
        return self.family(self.levels, torch.cat([logits, loc, log_scale.clamp(-4, 10)], dim=-1)).to_event(1)

    def start(self, mean: Tensor, variance: Tensor) -> Tensor:
        """The logistics stand side by side about the mean, within a standard deviation."""
        deviation = variance.clamp(min=0.25 / (self.levels - 1) ** 2).sqrt().unsqueeze(-1)
        place = torch.linspace(-1, 1, self.count + 2, device=mean.device)[1:-1].to(mean)
        loc = mean.unsqueeze(-1) + place * deviation
        log_scale = (deviation * (self.levels - 1) * 3**0.5 / math.pi).log().expand_as(loc)
        return torch.cat([torch.zeros_like(loc), loc, log_scale], dim=-1).flatten(-2)


class DiscretisedLogistic(LogisticMixture):
    """P(x_d = j/(L − 1)) the mass of one logistic in level j's bin (Kingma et al. 2016, §5.1)."""

    def __init__(self, levels: int = 256):
        super().__init__(levels, count=1)


class ContinuousBernoulli(Likelihood):
    """p(x_d) = C(λ) λ^x (1 − λ)^{1−x} on [0, 1], λ = sigmoid(η_d): what a Bernoulli of grey pixels lacks is C (Loaiza-Ganem &
    Cunningham 2019)."""

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        return Tilted(logits=eta).to_event(1)

    def start(self, mean: Tensor, variance: Tensor) -> Tensor:
        """η with this mean, ½ + (coth(η/2) − 2/η)/2, by bisection."""
        low, high = torch.full_like(mean, -100.0), torch.full_like(mean, 100.0)
        wanted = mean.clamp(0.01, 0.99)
        for _ in range(50):
            middle = (low + high) / 2
            half = torch.where(middle.abs() < 1e-3, torch.full_like(middle, 1e-3), middle) / 2
            found = torch.where(middle.abs() < 1e-3, 0.5 + middle / 12, 0.5 + 0.5 * (1 / half.tanh() - 1 / half))
            low, high = torch.where(found < wanted, middle, low), torch.where(found < wanted, high, middle)
        return (low + high) / 2


class Tilted(dist.ContinuousBernoulli):
    """torch's continuous Bernoulli, its log-density from the logit l: x l − log((eˡ − 1)/l), exact through l = 0.

    With a = l/2, log((eˡ − 1)/l) = a + log(sinh a / a); the latter is a²/6 − a⁴/180 + a⁶/2835 where a is small.
    """

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Tilted":
        return Tilted(logits=self.logits.expand(batch_shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        half = self.logits / 2
        near = half.abs() < 0.05
        square = half.square()
        series = square / 6 - square.square() / 180 + square**3 / 2835
        far = torch.where(near, torch.ones_like(half), half.abs())  # no gradient of a logarithm of 0
        exact = far + torch.log1p(-torch.exp(-2 * far)) - torch.log(2 * far)
        return value * self.logits - half - torch.where(near, series, exact)


class StudentT(Likelihood):
    """x_d ~ μ_d + σ_d t_ν, η = (μ, ρ), σ_d² = floor + softplus(ρ_d), one learned ν > 2: pixels that are far off cost log, not square
    (Takahashi et al. 2018)."""

    def __init__(self, floor: float = 1e-3):
        super().__init__()
        self.floor = checked_floor(floor)
        self.raw = nn.Parameter(torch.tensor(math.log(math.expm1(3.0))))

    @property
    def df(self) -> Tensor:
        """ν; it begins at 5."""
        return 2 + softplus(self.raw)

    def outputs(self, dim: int) -> int:
        return 2 * dim

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        loc, rho = eta.chunk(2, dim=-1)
        return dist.StudentT(self.df.to(eta), loc, (self.floor + softplus(rho)).sqrt()).to_event(1)

    def start(self, mean: Tensor, variance: Tensor) -> Tensor:
        square = variance * (self.df - 2) / self.df  # a t's variance is σ² ν/(ν − 2)
        return torch.cat([mean, inverse_softplus((square - self.floor).clamp(min=self.floor))], dim=-1)
