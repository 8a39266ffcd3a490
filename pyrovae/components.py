"""Families of K densities over one space, of which a mixture picks one for each point.

A family is one distribution with batch_shape (K,). It answers for all K at once, and picking the column of a point's z
afterwards costs nothing, where K distributions indexed by z would copy a covariance for every draw.
"""

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from .errors import Refusal
from .likelihoods import ImageNormal, Likelihood, PixelNormal, checked_floor
from .nets import Module


class Components(Module):
    """K densities p_k(x) over x of `dim` numbers."""

    def __init__(self, count: int, dim: int):
        super().__init__()
        if count < 1:
            raise Refusal(f"{count} components are no mixture: give at least 1.")
        self.count, self.dim = count, dim

    def family(self) -> dist.TorchDistribution:
        """All of them: batch_shape (K,), event_shape (dim,)."""
        raise NotImplementedError

    def start(self, x: Tensor, responsibilities: Tensor) -> None:
        """Set the moments of component k to those of x (N, dim) weighted by responsibilities (N, K)."""
        raise NotImplementedError

    def forward(self, index: Tensor) -> "Indexed":
        """p_z(x) for z = index (*batch,)."""
        return Indexed(self.family(), index)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p_k(x_n) for all k: (*batch, dim) → (*batch, K), nats."""
        return self.family().log_prob(x.unsqueeze(-2))


class Indexed(dist.TorchDistribution):
    """p_z(x): the member of `family` (batch_shape (K,)) that `index` (*batch,) names."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own protocol)
    has_rsample = False

    def __init__(self, family: dist.TorchDistribution, index: Tensor):
        self.family, self.index = family, index
        super().__init__(index.shape, family.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.family.support

    @property
    def mean(self) -> Tensor:
        return self.family.mean[self.index]

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Indexed":
        return Indexed(self.family, self.index.expand(batch_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        index = self.index.expand(torch.Size(sample_shape) + self.batch_shape)
        every = self.family.sample(index.shape)  # (*batch, K, dim)
        return every.take_along_dim(index[..., None, None], dim=-2).squeeze(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        every = self.family.log_prob(value.unsqueeze(-2))  # (*batch, K)
        shape = torch.broadcast_shapes(every.shape[:-1], self.index.shape)
        return every.expand(*shape, -1).take_along_dim(self.index.expand(shape).unsqueeze(-1), dim=-1).squeeze(-1)


class Independent(Components):
    """p_k(x) = Π_d p(x_d | η_k) with any likelihood: a table η (K, outputs) where a VAE has a decoder.

    `Independent(K, D, Bernoulli())` is the family of a mixture of Bernoullis, with `PixelNormal()` of a diagonal Gaussian
    mixture.
    """

    def __init__(self, count: int, dim: int, likelihood: Likelihood):
        super().__init__(count, dim)
        self.likelihood = likelihood
        spread = torch.randn(count, dim)
        self.eta = nn.Parameter(likelihood.start(spread.sigmoid(), torch.ones_like(spread)))

    def family(self) -> dist.TorchDistribution:
        return self.likelihood(self.eta)

    def start(self, x: Tensor, responsibilities: Tensor) -> None:
        weight = responsibilities / responsibilities.sum(dim=0)
        mean = weight.mT @ x
        variance = torch.stack([w @ (x - m).square() for w, m in zip(weight.mT, mean, strict=True)])
        with torch.no_grad():
            self.eta.copy_(self.likelihood.start(mean, variance))


class Diagonal(Independent):
    """N(μ_k, diag σ_k²), σ_kd² ≥ floor."""

    def __init__(self, count: int, dim: int, floor: float = 1e-3):
        super().__init__(count, dim, PixelNormal(floor))


class Spherical(Independent):
    """N(μ_k, σ_k² I), σ_k² ≥ floor."""

    def __init__(self, count: int, dim: int, floor: float = 1e-3):
        super().__init__(count, dim, ImageNormal(floor))


class WhitenedNormal(dist.MultivariateNormal):
    """N(μ_k, Σ_k) whose log-density is a matrix product with Σ's inverse Cholesky factor: computed once for all points,
    where `MultivariateNormal` solves a triangular system for each."""

    def log_prob(self, value: Tensor) -> Tensor:
        cholesky = self._unbroadcasted_scale_tril
        identity = torch.eye(cholesky.shape[-1], dtype=cholesky.dtype, device=cholesky.device).expand_as(cholesky)
        whiten = torch.linalg.solve_triangular(cholesky, identity, upper=False).mT  # Σ⁻¹ = whiten whitenᵀ
        white = torch.einsum("...kd,kde->...ke", value - self.loc, whiten.expand(*self.loc.shape[:-1], -1, -1))
        log_det = 2 * cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * (white.square().sum(-1) + log_det + cholesky.shape[-1] * math.log(2 * math.pi))


class Full(Components):
    """N(μ_k, Σ_k) with Σ_k = A_k R_k R_kᵀ A_kᵀ + floor I, R_k lower triangular and learned, A_k fixed by `start`.

    R begins at the identity and A Aᵀ at the clusters' scatter + floor I (so Σ a little wider than the scatter): a step of one size in R
    is a step of one *relative* size in Σ, whatever the units of the directions.
    """

    basis: Tensor

    def __init__(self, count: int, dim: int, floor: float = 1e-3):
        super().__init__(count, dim)
        self.floor = checked_floor(floor)
        self.loc = nn.Parameter(torch.randn(count, dim))
        row, column = torch.tril_indices(dim, dim)
        self.packed = nn.Parameter(
            (row == column).to(self.loc).repeat(self.shapes, 1)
        )  # R by rows: (shapes, dim(dim+1)/2)
        self.register_buffer("basis", torch.eye(dim).repeat(self.shapes, 1, 1))

    @property
    def shapes(self) -> int:
        """How many covariances there are."""
        return self.count

    def covariance(self) -> Tensor:
        """Σ: (shapes, dim, dim)."""
        row, column = torch.tril_indices(self.dim, self.dim, device=self.packed.device)
        factor = torch.zeros_like(self.basis)
        factor[:, row, column] = self.packed
        root = self.basis @ factor
        return root @ root.mT + self.floor * torch.eye(self.dim, dtype=root.dtype, device=root.device)

    def family(self) -> dist.TorchDistribution:
        return WhitenedNormal(self.loc, scale_tril=torch.linalg.cholesky(self.covariance()))

    def start(self, x: Tensor, responsibilities: Tensor) -> None:
        weight = responsibilities / responsibilities.sum(dim=0)
        loc = weight.mT @ x
        scatter = torch.stack([(w * (x - m).mT) @ (x - m) for w, m in zip(weight.mT, loc, strict=True)])
        ridge = self.floor * torch.eye(self.dim, dtype=x.dtype, device=x.device)
        with torch.no_grad():
            self.loc.copy_(loc)
            self.basis.copy_(torch.linalg.cholesky(self._pool(scatter, responsibilities.mean(dim=0)) + ridge))
            row, column = torch.tril_indices(self.dim, self.dim, device=x.device)
            self.packed.copy_((row == column).expand_as(self.packed))

    def _pool(self, scatter: Tensor, share: Tensor) -> Tensor:
        """The covariances to begin at (shapes, dim, dim), from the components' scatters (K, dim, dim) and shares (K,)."""
        return scatter


class Tied(Full):
    """N(μ_k, Σ): one covariance, as in `Full`, for all components."""

    @property
    def shapes(self) -> int:
        return 1

    def _pool(self, scatter: Tensor, share: Tensor) -> Tensor:
        return (share[:, None, None] * scatter).sum(dim=0, keepdim=True)
