"""p(x|z) families: objects that turn a decoder's outputs η into a distribution over x.

A VAE, a logistic PCA and a mixture differ in where η comes from (a network, a linear map, a row of a table); what they do
with it is here. To add a family, write `outputs`, `forward` and `start`.
"""

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..errors import Refusal
from ..nn import Module, inverse_softplus


def checked_floor(floor: float) -> float:
    """A floor of variances must be above 0: without one the density of data that hardly vary has no maximum."""
    if not 0 < floor < math.inf:
        raise Refusal(f"floor={floor} is no floor of variances: give a number above 0.")
    return floor


class Likelihood(Module):
    """p(x|η) over x of `dim` numbers, from η of `outputs(dim)` numbers."""

    def outputs(self, dim: int) -> int:
        """How many numbers η must have for x of `dim` numbers."""
        return dim

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        """η (*batch, outputs) → a distribution with batch_shape `batch` and event_shape (dim,)."""
        raise NotImplementedError

    def start(self, mean: Tensor, variance: Tensor) -> Tensor:
        """η (*batch, outputs) at which p(x|η) has about these moments (*batch, dim): where training begins."""
        raise NotImplementedError

    def maximum(self, mean: Tensor, variance: Tensor, share: Tensor) -> Tensor:
        """η (K, outputs) that maximises the mean of log p(x|η_k) over points of these moments (K, dim), whose shares are (K,):
        what an EM step needs; training does not."""
        raise Refusal(
            f"{type(self).__name__} does not say where its likelihood is highest: train without EM, or write "
            "maximum(mean, variance, share)."
        )


class Bernoulli(Likelihood):
    """x_d ~ Bernoulli(sigmoid(η_d)), x in {0, 1}: a probability, not a density."""

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        return Pixels(dist.Bernoulli(logits=eta), 1)

    def start(self, mean: Tensor, variance: Tensor) -> Tensor:
        return torch.logit(mean.clamp(0.01, 0.99))  # a pixel never seen lit is not one that cannot be

    def maximum(self, mean: Tensor, variance: Tensor, share: Tensor) -> Tensor:
        return torch.logit(mean.clamp(1e-6, 1 - 1e-6))  # the maximum among finite η, to 1e-6 nats


class BernoulliMean(Likelihood):
    """x_d ~ Bernoulli(η_d), x in {0, 1}, of a decoder that ends in a sigmoid: η in [0, 1].

    Logits are the better output: an η that has rounded to 0 or to 1 is taken to the nearest (normal) number inside, and the two ends
    differ. In single precision 0 is 2⁻¹²⁶, 87 nats from certain where x is 1, and 1 is 1 − 2⁻²⁴, 17 nats where x is 0.

    Raises `Refusal` at the first η that is no probability, if the pair's first run has one (later ones make the density nan), and where
    a pair's outputs start at the data's mean: what is free to move from there does not stay a probability. Pyrovae's own pairs
    return logits, for `Bernoulli`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = (
            False  # once, in the run that looks a pair over: later ones are recorded, and may not wait for numbers
        )

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        if not self.seen:
            self.refuse_logits(eta)
            self.seen = True
        info = torch.finfo(eta.dtype)
        inside = torch.where((eta < 0) | (eta > 1), torch.nan, eta.clamp(info.tiny, 1 - info.eps / 2))
        return Pixels(dist.Bernoulli(logits=torch.logit(inside)), 1)

    @staticmethod
    def refuse_logits(eta: Tensor) -> None:
        """Raises `Refusal` where an η lies outside [0, 1]."""
        if bool(((eta < 0) | (eta > 1)).any()):
            raise Refusal(
                f"The decoder returns {float(eta.min()):.3g} to {float(eta.max()):.3g}, and BernoulliMean reads probabilities: give "
                "Bernoulli(), which reads logits, or end the decoder in a sigmoid."
            )

    def start(self, mean: Tensor, variance: Tensor) -> Tensor:
        raise Refusal(
            "BernoulliMean reads probabilities, and this pair's outputs are free to leave [0, 1]: give Bernoulli(), which reads "
            "logits. BernoulliMean is for decoders that end in a sigmoid, in from_networks or a pair of your own."
        )


class Pixels(dist.Independent):
    """Π_d Bernoulli(x_d; sigmoid(l_d)), whose log-density, where no gradient is asked for, is Σ x_d l_d − Σ log(1 + e^{l_d}).

    The second sum knows no x: it is taken once for all x that share l. The first is a matrix product where every x meets every
    l. Of the logarithms, log(1 + eˡ) = max(l, 0) + log(1 + e^{−|l|}), there is one for up to 64 factors, each between 1 and 2.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return super().log_prob(value)
        logits, value = _unexpanded(self.base_dist.logits), _unexpanded(value)
        logits = logits.to(torch.promote_types(logits.dtype, value.dtype))  # under autocast it comes in half precision
        shape = torch.broadcast_shapes(logits.shape, value.shape)
        if shape.numel() > max(logits.numel(), value.numel()):
            linear = torch.einsum("...d,...d->...", value, logits) - logits.clamp(min=0).sum(-1)
        else:
            linear = (value * logits - logits.clamp(min=0)).sum(-1)
        factors = 1 + torch.exp(-logits.abs())
        groups = 16 * -(-shape[-1] // 1024)  # of 64 at most, and 16 beside one another for vector units
        if shape[-1] % groups == 0:
            factors = factors.unflatten(-1, (-1, groups)).prod(dim=-2)
        log_prob = linear - factors.log().sum(-1)
        return log_prob.expand(torch.broadcast_shapes(self.batch_shape, shape[:-1]))


def _unexpanded(value: Tensor) -> Tensor:
    """The tensor without the copies along batch dimensions that `expand` pretends."""
    for dim in range(value.dim() - 1):
        if value.stride(dim) == 0 and value.shape[dim] > 1:
            value = value.narrow(dim, 0, 1)
    return value


class FixedNormal(Likelihood):
    """x_d ~ N(η_d, σ²) with σ given."""

    sigma: Tensor

    def __init__(self, sigma: float):
        super().__init__()
        if not 0 < sigma < math.inf:
            raise Refusal(f"sigma={sigma} is no standard deviation: give a number above 0.")
        self.register_buffer("sigma", torch.tensor(float(sigma)))

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        return dist.Normal(eta, self.sigma.to(eta)).to_event(1)

    def start(self, mean: Tensor, variance: Tensor) -> Tensor:
        return mean

    def maximum(self, mean: Tensor, variance: Tensor, share: Tensor) -> Tensor:
        return mean


class Normal(Likelihood):
    """x_d ~ N(η_d, σ²) with one learned σ² = floor + softplus(ρ) for all pixels; at the optimum σ² is the mean squared
    error (Rybkin et al. 2021, σ-VAE). The floor keeps the density finite where pixels hardly vary."""

    def __init__(self, floor: float = 1e-4):
        super().__init__()
        self.floor = checked_floor(floor)
        self.rho = nn.Parameter(torch.tensor(math.log(math.expm1(0.1))))

    @property
    def variance(self) -> Tensor:
        return self.floor + softplus(self.rho)

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        return dist.Normal(eta, self.variance.sqrt()).to_event(1)

    def start(self, mean: Tensor, variance: Tensor) -> Tensor:
        with torch.no_grad():
            self.rho.copy_(inverse_softplus(variance.mean().clamp(min=self.floor)))
        return mean

    def maximum(self, mean: Tensor, variance: Tensor, share: Tensor) -> Tensor:
        with torch.no_grad():
            self.rho.copy_(_above(share @ variance.mean(dim=-1), self.floor))
        return mean


class PixelNormal(Likelihood):
    """x_d ~ N(μ_d, σ_d²) with η = (μ, ρ) and σ_d² = floor + softplus(ρ_d): mean and variance per pixel."""

    def __init__(self, floor: float = 1e-3):
        super().__init__()
        self.floor = checked_floor(floor)

    def outputs(self, dim: int) -> int:
        return 2 * dim

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        loc, rho = eta.chunk(2, dim=-1)
        return dist.Normal(loc, (self.floor + softplus(rho)).sqrt()).to_event(1)

    def start(self, mean: Tensor, variance: Tensor) -> Tensor:
        return torch.cat([mean, inverse_softplus(variance.clamp(min=self.floor))], dim=-1)

    def maximum(self, mean: Tensor, variance: Tensor, share: Tensor) -> Tensor:
        return torch.cat([mean, _above(variance, self.floor)], dim=-1)


class ImageNormal(Likelihood):
    """x ~ N(μ, σ² I) with η = (μ, ρ) and σ² = floor + softplus(ρ): one variance per image."""

    def __init__(self, floor: float = 1e-3):
        super().__init__()
        self.floor = checked_floor(floor)

    def outputs(self, dim: int) -> int:
        return dim + 1

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        loc, rho = eta[..., :-1], eta[..., -1:]
        return dist.Normal(loc, (self.floor + softplus(rho)).sqrt()).to_event(1)

    def start(self, mean: Tensor, variance: Tensor) -> Tensor:
        shared = variance.mean(dim=-1, keepdim=True).clamp(min=self.floor)
        return torch.cat([mean, inverse_softplus(shared)], dim=-1)

    def maximum(self, mean: Tensor, variance: Tensor, share: Tensor) -> Tensor:
        return torch.cat([mean, _above(variance.mean(dim=-1, keepdim=True), self.floor)], dim=-1)


def _above(variance: Tensor, floor: float) -> Tensor:
    """ρ with floor + softplus(ρ) = variance, or a millionth above the floor where that is higher: softplus has no zero."""
    return inverse_softplus((variance - floor).clamp(min=1e-6 * floor))
