"""Families of K densities over one space, of which a mixture picks one for each point.

A family is one distribution with batch_shape (K,). It answers for all K at once, and picking the column of a point's z
afterwards costs nothing, where K distributions indexed by z would copy a covariance for every draw.
"""

from collections.abc import Iterator

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..distributions.indexed import Indexed
from ..distributions.normal import DiagonalNormal, PrecisionNormal
from ..errors import InvalidInputError
from ..nn import Module, column_moments
from .base import Likelihood, checked_floor

AT_FLOOR = 1e-3  # relative: a variance so near its floor is said to be at it
BLOCK_ELEMENTS = 2**18  # of points' differences from a mean at once: few enough for a cache


class MixtureComponents(Module):
    """K densities p_k(x) over x of `dim` numbers."""

    def __init__(self, count: int, dim: int):
        super().__init__()
        if count < 1:
            raise InvalidInputError(f"{count} components are no mixture: give at least 1.")
        self.count, self.dim = count, dim

    def family(self) -> dist.TorchDistribution:
        """All of them: batch_shape (K,), event_shape (dim,)."""
        raise NotImplementedError

    def family_detached(self) -> dist.TorchDistribution:
        """`family()` for numbers without gradients, which may be cheaper where `m_step` set it; may read on the host."""
        return self.family()

    def second_moment(self, y: Tensor) -> Tensor:
        """Σ_n y_n y_nᵀ, or what the family needs to know of it: y (*batch, N, dim) → (*batch, …)."""
        return y.square().sum(dim=-2)

    def scatter(self, x: Tensor, responsibilities: Tensor, centre: Tensor) -> Tensor:
        """Σ_n r_nk (x_n − c_k)(x_n − c_k)ᵀ, or what the family needs to know of it, a row for each k: x (N, dim), r (N, K),
        c (K, dim). Points of next to no weight are left out, by which a diagonal element is too low by less than
        eps² Σ_n r_nk times the largest (x_nd − c_kd)²: see `weighted_residuals`."""
        moments = self.second_moment(x.new_zeros(self.count, 0, self.dim, dtype=torch.float64))
        for k, y in weighted_residuals(x, responsibilities, centre):
            moments[k] += self.second_moment(y)
        return moments

    def m_step(self, mean: Tensor, total: Tensor, scatter: Tensor) -> None:
        """Set p_k to the family's maximum of the likelihood for points with these means (K, dim), which weigh `total` (K,) and
        `scatter` about them: the M-step."""
        raise NotImplementedError

    def start(self, x: Tensor, responsibilities: Tensor) -> None:
        """Begin at the moments of x (N, dim) weighted by responsibilities (N, K)."""
        total = responsibilities.sum(dim=0)
        mean = weighted_means(x, responsibilities)
        self.m_step(mean, total, self.scatter(x, responsibilities, mean))

    def standardised(self, x: Tensor) -> Tensor:
        """x (N, dim) in the units in which distances between points are to be measured: as it is, if the family does not say."""
        return x

    def directions_at_floor(self) -> Tensor | None:
        """How many of the directions in which the variance is at its floor lie in each column: (K, dim), which sums to their
        number. None for a family without a floor."""
        return None

    def forward(self, index: Tensor) -> "Indexed":
        """p_z(x) for z = index (*batch,)."""
        return Indexed(self.family(), index)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p_k(x_n) for all k: (*batch, dim) → (*batch, K), nats."""
        return self.family().log_prob(x.unsqueeze(-2))


def weighted_residuals(x: Tensor, responsibilities: Tensor, centre: Tensor) -> Iterator[tuple[int, Tensor]]:
    """k and some rows √r_nk (x_n − c_k), until every k has had all of its rows: x (N, dim), r (N, K), c (K, dim).

    Left out are the points of r_nk ≤ (eps²/N) Σ_m r_mk, which together weigh at most eps² of k's weight, eps being the
    rounding of r: where components hardly overlap that is all points but each component's own, a K-th of the work. The host
    waits twice, however many components there are. Rows are in double precision.
    """
    least = torch.finfo(responsibilities.dtype).eps ** 2 / len(x) * responsibilities.sum(dim=0)
    heavy = (responsibilities > least).mT
    counts = heavy.sum(dim=1).tolist()
    components, points = heavy.nonzero(as_tuple=True)  # k after k
    roots = responsibilities[points, components].sqrt()
    rows = max(1, BLOCK_ELEMENTS // x.shape[1])
    for k, (every, root) in enumerate(zip(points.split(counts), roots.split(counts), strict=True)):
        for some, r in zip(every.split(rows), root.split(rows), strict=True):
            yield k, x.index_select(0, some).double().sub_(centre[k]).mul_(r.unsqueeze(-1))


def weighted_means(x: Tensor, responsibilities: Tensor) -> Tensor:
    """Σ_n r_nk x_n / Σ_n r_nk, about the mean of all x: x (N, dim), r (N, K) → (K, dim), in double precision."""
    centre = x.double().mean(dim=0)
    weights = responsibilities.double() / responsibilities.double().sum(dim=0)
    return centre + weights.mT @ (x.double() - centre)


class IndependentComponents(MixtureComponents):
    """p_k(x) = Π_d p(x_d | η_k) with any likelihood: a table η (K, outputs) where a VAE has a decoder.

    `IndependentComponents(K, D, Bernoulli())` is the family of a mixture of Bernoullis, with `PixelNormal()` of a diagonal Gaussian
    mixture.
    """

    def __init__(self, count: int, dim: int, likelihood: Likelihood):
        super().__init__(count, dim)
        self.likelihood = likelihood
        spread = torch.randn(count, dim)
        self.eta = nn.Parameter(likelihood.initial_outputs(spread.sigmoid(), torch.ones_like(spread)))

    def family(self) -> dist.TorchDistribution:
        return self.likelihood(self.eta)

    def start(self, x: Tensor, responsibilities: Tensor) -> None:
        """At about the moments, where the likelihood's own `initial_outputs` says that gradients are alive: at a maximum on the border
        of its parameters, such as a pixel that is never lit, they are not."""
        total = responsibilities.sum(dim=0)
        mean = weighted_means(x, responsibilities)
        variance = self.scatter(x, responsibilities, mean) / total.unsqueeze(-1)
        mean, variance = mean.to(x.dtype), variance.to(x.dtype)
        with torch.no_grad():
            self.eta.copy_(self.likelihood.initial_outputs(mean, variance))

    def m_step(self, mean: Tensor, total: Tensor, scatter: Tensor) -> None:
        with torch.no_grad():
            moments = mean, scatter / total.unsqueeze(-1), total / total.sum()
            self.eta.copy_(self.likelihood.m_step(*(part.to(self.eta) for part in moments)))


class GaussianComponents(MixtureComponents):
    """N(μ_k, Σ_k) under a floor of its variances: what `Diagonal` and `Full` have in common.

    A column's unit s_d is its standard deviation in the data that the family starts at, and 1 before. `floor` is in these units:
    a fraction of the variance of each column.
    """

    centre: Tensor
    variances: Tensor
    unit: Tensor

    def __init__(self, count: int, dim: int, floor: float = 1e-3):
        super().__init__(count, dim)
        self.floor = checked_floor(floor)
        self.shift = nn.Parameter(torch.zeros(count, dim))  # b
        self.register_buffer("centre", torch.randn(count, dim))
        self.register_buffer("unit", torch.ones(dim))

    def start(self, x: Tensor, responsibilities: Tensor) -> None:
        self.unit.copy_(column_moments(x)[1])
        super().start(x, responsibilities)

    def standardised(self, x: Tensor) -> Tensor:
        mean, sd = column_moments(x)
        return (x.double() - mean) / sd


class Diagonal(GaussianComponents):
    """N(μ_k, diag σ_k²), σ_kd² ≥ floor · s_d², s_d the column's unit.

    From the start, m and v, the mean is m + √v b and the variance v e^(2ρ), or the floor where that is higher; b and ρ are
    learned. A step of one size is one of the same *relative* size, whatever the units of x.
    """

    def __init__(self, count: int, dim: int, floor: float = 1e-3):
        super().__init__(count, dim, floor)
        self.log_scale = nn.Parameter(torch.zeros(count, self.widths))  # ρ
        self.register_buffer("variances", torch.ones(count, self.widths))  # v

    @property
    def widths(self) -> int:
        """How many variances a component has."""
        return self.dim

    @property
    def least(self) -> Tensor:
        """The least variances: (widths,)."""
        return self.floor * self.unit.square()

    def family(self) -> dist.TorchDistribution:
        variance = torch.maximum(self.variances * (2 * self.log_scale).exp(), self.least)
        return DiagonalNormal(dist.Normal(self.centre + self.variances.sqrt() * self.shift, variance.sqrt()), 1)

    def directions_at_floor(self) -> Tensor:
        with torch.no_grad():
            at_floor = self.variances * (2 * self.log_scale).exp() <= self.least * (1 + AT_FLOOR)
            return at_floor.double().expand(self.count, self.dim)

    def m_step(self, mean: Tensor, total: Tensor, scatter: Tensor) -> None:
        """σ² is the points' variance, or the floor where that is higher: the maximum under the floor."""
        variance = scatter / total.unsqueeze(-1)
        with torch.no_grad():
            self.centre.copy_(mean)
            self.variances.copy_(torch.maximum(variance.unflatten(-1, (self.widths, -1)).mean(dim=-1), self.least))
            self.shift.zero_()
            self.log_scale.zero_()


class Spherical(Diagonal):
    """N(μ_k, σ_k² I) as in `Diagonal`, σ_k² ≥ floor · (1/D) Σ_d s_d²: it is one variance of columns that have one unit."""

    @property
    def widths(self) -> int:
        return 1

    @property
    def least(self) -> Tensor:
        return self.floor * self.unit.square().mean(dim=-1, keepdim=True)

    def standardised(self, x: Tensor) -> Tensor:
        return x.double() - x.double().mean(dim=0)


class Full(GaussianComponents):
    """N(μ_k, Σ_k), no eigenvalue of any S⁻¹ Σ_k S⁻¹ below floor, S = diag(s) of the columns' units s.

    S⁻¹ΣS⁻¹ = U diag(v) Uᵀ and μ are fixed at the start; from there μ + S U diag(√v) b and Σ⁻¹ = P Pᵀ, P = S⁻¹ U diag(v^−½) R C, with
    b and the lower triangular R learned, from 0 and from the identity. A step of one size in b and R is one of the same *relative*
    size in μ and Σ, whatever the units of x.

    C is diagonal and keeps the floor: with B = U diag(v^−½) R, c_j = min(1, (floor Σ_i |BᵀB|_ij)^−½) makes ‖B C‖² ≤ 1/floor for
    any R (Prach & Lampert 2022, theorem 1), and is 1 where B's columns are orthogonal and short enough, as at every start.
    """

    axes: Tensor
    row: Tensor
    column: Tensor

    def __init__(self, count: int, dim: int, floor: float = 1e-3):
        super().__init__(count, dim, floor)
        self.packed = nn.Parameter(torch.zeros(self.shapes, dim * (dim + 1) // 2))  # R: log of its diagonal, then below
        self.register_buffer("axes", torch.eye(dim).repeat(self.shapes, 1, 1))  # U
        self.register_buffer("variances", torch.full((self.shapes, dim), max(1.0, self.floor)))  # v, ascending
        row, column = torch.tril_indices(dim, dim, offset=-1)
        self.register_buffer("row", row, persistent=False)
        self.register_buffer("column", column, persistent=False)

    @property
    def shapes(self) -> int:
        """How many covariances there are."""
        return self.count

    def family(self) -> dist.TorchDistribution:
        diagonal = self.packed[:, : self.dim]
        factor = torch.diag_embed(diagonal.exp())
        factor[:, self.row, self.column] = self.packed[:, self.dim :]
        factor = factor * self.variances.rsqrt().unsqueeze(-1)
        gram = factor.mT @ factor  # BᵀB: U does not enter
        cap = (self.floor * gram.abs().sum(-1)).rsqrt().clamp(max=1)
        log_det = (diagonal + cap.log() - 0.5 * self.variances.log()).sum(-1)
        step = self.axes @ (self.variances.sqrt() * self.shift).unsqueeze(-1)
        return self._in_data_units(step.squeeze(-1), self.axes @ (factor * cap.unsqueeze(-2)), log_det)

    def _in_data_units(self, step: Tensor, factor: Tensor, log_det: Tensor) -> PrecisionNormal:
        """From the step, P and log|det P| of x in the columns' units."""
        loc, factor = self.centre + self.unit * step, factor / self.unit.unsqueeze(-1)
        return PrecisionNormal(loc, factor, log_det=log_det - self.unit.log().sum())

    def directions_at_floor(self) -> Tensor:
        with torch.no_grad():
            factor = self.family().factor.double() * self.unit.double().unsqueeze(-1)
            axes, widths, _ = torch.linalg.svd(factor)  # of P: 1/√ of the eigenvalues of Σ
            at_floor = (widths.square().reciprocal() <= self.floor * (1 + AT_FLOOR)).double()
            return (axes.square() @ at_floor.unsqueeze(-1)).squeeze(-1)

    def family_detached(self) -> dist.TorchDistribution:
        if bool(self.packed.any()) or bool(self.shift.any()):
            return self.family()
        variances = self.variances.clamp(min=self.floor)  # what C does to R = I
        factor = self.axes * variances.rsqrt().unsqueeze(-2)
        return self._in_data_units(torch.zeros_like(self.centre), factor, -0.5 * variances.log().sum(-1))

    def second_moment(self, y: Tensor) -> Tensor:
        return y.mT @ y

    def m_step(self, mean: Tensor, total: Tensor, scatter: Tensor) -> None:
        """Σ is the points' covariance, in the columns' units, with the eigenvalues below the floor raised to it: the maximum
        under the floor. In the data's units the smallest eigenvalues would drown in the rounding of the largest."""
        unit = self.unit.double()
        variances, axes = torch.linalg.eigh(self._covariances(total, scatter) / unit / unit.unsqueeze(-1))
        with torch.no_grad():
            self.centre.copy_(mean)
            self.variances.copy_(variances.clamp(min=self.floor))
            self.axes.copy_(axes)
            self.packed.zero_()
            self.shift.zero_()

    def _covariances(self, total: Tensor, scatter: Tensor) -> Tensor:
        """(shapes, dim, dim)."""
        return scatter / total[:, None, None]


class Tied(Full):
    """N(μ_k, Σ): one covariance, as in `Full`, for all components."""

    @property
    def shapes(self) -> int:
        return 1

    def _covariances(self, total: Tensor, scatter: Tensor) -> Tensor:
        return scatter.sum(dim=0, keepdim=True) / total.sum()
