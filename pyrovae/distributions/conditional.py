"""p(x_missing | x_observed) of each point as a mixture, for pairs that know it in closed form."""

from collections.abc import Callable
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.special import ndtr, ndtri

from ..missing import assume_missing
from .missing_entries import observed
from .observed_factors import ObservedFactors

BISECTIONS = 60  # of a quantile: to rounding
REACH = 40.0  # standard deviations from the means, within which any quantile lies


@dataclass(frozen=True)
class Conditional:
    """x given its observed entries: Σ_k r_nk p_k(x_n|observed), for each of N points. In double precision.

    Attributes:
        shares: r (N, K), the probability of each component given the observed entries.
        means: The mean of each component (N, K, D); the value itself where x is observed.
        sds: The standard deviation of each entry in each component (N, K, D); 0 where x is observed.
        fill: Draws the missing entries from every component once: (N, K, D).
        is_normal: Whether each entry is normal in each component.
    """

    shares: Tensor
    means: Tensor
    sds: Tensor
    fill: Callable[[], Tensor]
    is_normal: bool = True

    @property
    def mean(self) -> Tensor:
        """E[x|observed]: (N, D)."""
        return (self.shares.unsqueeze(-1) * self.means).sum(1)

    @property
    def sd(self) -> Tensor:
        """The standard deviation of each entry given the observed ones: (N, D)."""
        about = (self.means - self.mean.unsqueeze(1)).square() + self.sds.square()
        return (self.shares.unsqueeze(-1) * about).sum(1).sqrt()

    def quantile(self, probability: float) -> Tensor:
        """The quantile of each entry, (N, D), of normal components: by bisection of the mixture's distribution function."""
        if self.means.shape[1] == 1:
            return self.means[:, 0] + self.sds[:, 0] * float(ndtri(torch.tensor(probability).double()))
        low = (self.means - REACH * self.sds).amin(1)
        high = (self.means + REACH * self.sds).amax(1)
        scale = torch.where(self.sds > 0, self.sds, 1.0)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            below = (self.shares.unsqueeze(-1) * ndtr((middle.unsqueeze(1) - self.means) / scale)).sum(1)
            low, high = torch.where(below < probability, middle, low), torch.where(below < probability, high, middle)
        return torch.where((self.sds > 0).any(1), (low + high) / 2, self.means[:, 0])

    def draw(self, count: int) -> Tensor:
        """x with its missing entries drawn, all of a point together: (count, N, D)."""
        component = torch.distributions.Categorical(probs=self.shares)
        draws = []
        for _ in range(count):
            chosen = component.sample()[:, None, None].expand(-1, 1, self.means.shape[-1])
            draws.append(self.fill().gather(1, chosen).squeeze(1))
        return torch.stack(draws)


def conditional_of(family: dist.TorchDistribution, x: Tensor, log_shares: Tensor) -> Conditional:
    """Return x given its observed entries under a mixture of K densities.

    Args:
        family: The densities, batch_shape (K,): with independent entries, or `PrecisionNormal`.
        x: Points (N, D). Missing entries are NaN.
        log_shares: log p(k|x_observed), (N, K).

    Returns:
        The mixture of the conditional densities.
    """
    with torch.no_grad(), assume_missing(True):
        value, density = x.double().unsqueeze(-2), observed(family, x)
        means, covariance = density.moments(value)
        variances = covariance.diagonal(dim1=-2, dim2=-1) if covariance.dim() > means.dim() else covariance
        every = value.expand(means.shape)
        entries = getattr(density, "entries", None)
        is_normal = entries is None or isinstance(entries, dist.Normal)
        sds = variances.double().clamp(min=0).sqrt()
        return Conditional(log_shares.double().softmax(-1), means, sds, lambda: density.fill(every), is_normal)


def conditional_of_factors(x: Tensor, W: Tensor, mu: Tensor, noise: Tensor, log_shares: Tensor) -> Conditional:
    """Return x given its observed entries under a mixture of K linear Gaussian models x = W_k z + μ_k + ε.

    Args:
        x: Points (N, D). Missing entries are NaN.
        W: Loadings (K, D, q).
        mu: Means (K, D).
        noise: Variances ψ, which broadcast to `mu`.
        log_shares: log p(k|x_observed), (N, K).

    Returns:
        The mixture of the conditional normals.
    """
    with torch.no_grad():
        W, mu = W.double(), mu.double()
        noise = noise.double().expand(mu.shape)
        given, missing = ObservedFactors(x, W, mu, noise), x.isnan()
        means = given.mean @ W.mT + mu.unsqueeze(1)  # (K, N, D)
        spread = torch.einsum("kde,knef,kdf->knd", W, given.covariance, W) + noise.unsqueeze(1)

        def of_missing(values: Tensor, otherwise: Tensor) -> Tensor:
            return torch.where(missing, values, otherwise.double()).transpose(0, 1)

        def fill() -> Tensor:
            z = given.mean + (given.inverse.mT @ torch.randn_like(given.mean).unsqueeze(-1)).squeeze(-1)
            drawn = z @ W.mT + mu.unsqueeze(1) + noise.sqrt().unsqueeze(1) * torch.randn_like(means)
            return of_missing(drawn, x)

        sds = of_missing(spread.sqrt(), torch.zeros_like(x))
        return Conditional(log_shares.double().softmax(-1), of_missing(means, x), sds, fill)
