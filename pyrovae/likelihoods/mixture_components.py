"""Families of K densities over one space, of which a mixture picks one for each point.

A family is one distribution with batch_shape (K,). It evaluates all K at once, and then the column of a point's z is
picked at no cost. Distributions indexed by z would copy a covariance for every draw.
"""

from collections.abc import Iterator

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..distributions.indexed import Indexed
from ..distributions.missing_entries import observed
from ..distributions.normal import DiagonalNormal, PrecisionNormal
from ..errors import InvalidInputError
from ..missing import assume_missing, fill_missing, has_missing
from ..nn import Module, column_moments
from .base import Likelihood, checked_floor

AT_FLOOR = 1e-3  # relative: a variance so near its floor is said to be at it
MISSING_ELEMENTS = 2**20  # of the covariances of missing entries, at once
BLOCK_ELEMENTS = 2**18  # of points' differences from a mean at once: few enough for a cache


class MixtureComponents(Module):
    """Base of the families of K densities p_k(x), of which a mixture picks one for each point.

    Args:
        count: K, the number of densities.
        dim: D, the size of one point x.
    """

    def __init__(self, count: int, dim: int):
        super().__init__()
        if count < 1:
            raise InvalidInputError(f"{count} components are no mixture: give at least 1.")
        self.count, self.dim = count, dim

    def family(self) -> dist.TorchDistribution:
        """Return all K densities as one distribution: batch_shape (K,), event_shape (dim,)."""
        raise NotImplementedError

    def family_detached(self) -> dist.TorchDistribution:
        """Return `family()` for numbers without gradients.

        It may be cheaper where `m_step` has set the parameters. It may read values on the host.
        """
        return self.family()

    def second_moment(self, y: Tensor) -> Tensor:
        """Return Σ_n y_n y_nᵀ, or the part of it that the family needs.

        Args:
            y: Points (*batch, N, dim).
        """
        return y.square().sum(dim=-2)

    def scatter(self, x: Tensor, responsibilities: Tensor, centre: Tensor) -> Tensor:
        """Return Σ_n r_nk (x_n − c_k)(x_n − c_k)ᵀ, or the part of it that the family needs: a row for each k.

        Points of almost no weight are left out. So a diagonal element is too low by less than eps² Σ_n r_nk times the
        largest (x_nd − c_kd)², as `weighted_residuals` explains.

        Args:
            x: Points (N, dim).
            responsibilities: r (N, K).
            centre: c (K, dim).
        """
        moments = self.second_moment(x.new_zeros(self.count, 0, self.dim, dtype=torch.float64))
        for k, y in weighted_residuals(x, responsibilities, centre):
            moments[k] += self.second_moment(y)
        return moments

    def m_step(self, mean: Tensor, total: Tensor, scatter: Tensor) -> None:
        """Set each p_k to the maximum of the likelihood in its family: the M-step.

        Args:
            mean: The weighted means of the points, (K, dim).
            total: The total weight of the points, (K,).
            scatter: The scatter of the points about their means, as `scatter` returns it.
        """
        raise NotImplementedError

    @property
    def missing_rows(self) -> int:
        """How many points with missing entries are taken at once: each has a covariance in each component."""
        return max(1, MISSING_ELEMENTS // (self.count * self.dim**2))

    def expected_m_step(self, x: Tensor, responsibilities: Tensor) -> None:
        """Make the M-step for points with missing entries, which are latents, given the observed ones.

        The weighted means and the scatter become those of E[x|observed], and Cov[x|observed] is added to the scatter.

        Args:
            x: Points (N, dim).
            responsibilities: r (N, K).

        References:
            Ghahramani & Jordan (1994). Supervised learning from incomplete data via an EM approach.
        """
        family = self.family_detached()
        centre = family.mean.double()
        with assume_missing(True):
            density = observed(family, x)
        moved = torch.zeros_like(centre)
        scatter = self.second_moment(moved.new_zeros(self.count, 0, self.dim))
        weights = responsibilities.double()
        for chunk, r in zip(x.split(self.missing_rows), weights.split(self.missing_rows), strict=True):
            mean, covariance = density.moments(chunk.double().unsqueeze(-2))
            y = (mean - centre).movedim(-2, 0)  # (K, n, dim)
            moved += torch.einsum("nk,knd->kd", r, y)
            scatter += self.second_moment(y * r.mT.sqrt().unsqueeze(-1)) + torch.einsum(
                "nk,nk...->k...", r, covariance.double()
            )
        total = weights.sum(dim=0).clamp(min=torch.finfo(x.dtype).tiny)
        moved /= total.unsqueeze(-1)
        about = self.second_moment((moved * total.sqrt().unsqueeze(-1)).unsqueeze(1))
        self.m_step(centre + moved, total, scatter - about)

    def start(self, x: Tensor, responsibilities: Tensor) -> None:
        """Begin at the moments of x (N, dim), weighted by responsibilities (N, K). Missing entries count as column means."""
        if has_missing(x):
            x = fill_missing(x.double(), column_moments(x)[0]).to(x.dtype)
        total = responsibilities.sum(dim=0)
        mean = weighted_means(x, responsibilities)
        self.m_step(mean, total, self.scatter(x, responsibilities, mean))

    def standardised(self, x: Tensor) -> Tensor:
        """Return x (N, dim) in the units in which distances between points are measured.

        It is x itself, if the family does not say. Missing entries are at the mean of their column.
        """
        return fill_missing(x.double(), column_moments(x)[0]) if has_missing(x) else x

    def directions_at_floor(self) -> Tensor | None:
        """Count the directions in which the variance is at its floor, by column: (K, dim), which sums to their number.

        None for a family without a floor.
        """
        return None

    def forward(self, index: Tensor) -> "Indexed":
        """Return p_z(x) for z = index (*batch,)."""
        return Indexed(self.family(), index)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p_k(x_n) for all k: (*batch, dim) → (*batch, K), nats."""
        return observed(self.family(), x).log_prob(x.unsqueeze(-2))


def weighted_residuals(x: Tensor, responsibilities: Tensor, centre: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield k and some rows √r_nk (x_n − c_k), until every k has had all of its rows. Rows are in double precision.

    Points with r_nk ≤ (eps²/N) Σ_m r_mk are left out, where eps is the rounding of r. Together they weigh at most
    eps² of component k. Where components hardly overlap, these are all points but the component's own, so the work is
    a K-th. The host waits twice, however many components there are.

    Args:
        x: Points (N, dim).
        responsibilities: r (N, K).
        centre: c (K, dim).
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
    """Compute Σ_n r_nk x_n / Σ_n r_nk about the mean of all x, in double precision: x (N, dim), r (N, K) → (K, dim)."""
    centre = x.double().mean(dim=0)
    weights = responsibilities.double() / responsibilities.double().sum(dim=0)
    return centre + weights.mT @ (x.double() - centre)


class IndependentComponents(MixtureComponents):
    """K densities p_k(x) = Π_d p(x_d | η_k), with any likelihood and a table η (K, outputs).

    With `Bernoulli()` it makes a mixture of Bernoullis, with `PixelNormal()` a mixture of diagonal Gaussians.

    Args:
        count: K, the number of densities.
        dim: D, the size of one point x.
        likelihood: The family p(x|η).
    """

    def __init__(self, count: int, dim: int, likelihood: Likelihood):
        super().__init__(count, dim)
        self.likelihood = likelihood
        spread = torch.randn(count, dim)
        self.eta = nn.Parameter(likelihood.initial_outputs(spread.sigmoid(), torch.ones_like(spread)))

    def family(self) -> dist.TorchDistribution:
        return self.likelihood(self.eta)

    def start(self, x: Tensor, responsibilities: Tensor) -> None:
        """Begin at about the moments, where `initial_outputs` of the likelihood says that gradients are alive.

        They are not at a maximum on the border of the parameters, such as a pixel that is never lit.
        """
        if has_missing(x):
            x = fill_missing(x.double(), column_moments(x)[0]).to(x.dtype)
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
    """Base of the families N(μ_k, Σ_k), with a floor of the variances.

    The unit s_d of a column is its standard deviation in the data that the family starts at, and 1 before.

    Args:
        count: K, the number of Gaussians.
        dim: D, the size of one point x.
        floor: The smallest variance, as a fraction of the variance s_d² of the column.
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
        return fill_missing((x.double() - mean) / sd)


class Diagonal(GaussianComponents):
    """Gaussians N(μ_k, diag σ_k²), with σ_kd² ≥ floor · s_d², where s_d is the unit of the column.

    Training begins at the mean m and the variance v of the data. The mean is then m + √v b, and the variance v
    e^(2ρ), or the floor where that is higher. b and ρ are learned. So a step has the same *relative* size whatever
    the units of x. Arguments are those of `GaussianComponents`.
    """

    def __init__(self, count: int, dim: int, floor: float = 1e-3):
        super().__init__(count, dim, floor)
        self.log_scale = nn.Parameter(torch.zeros(count, self.widths))  # ρ
        self.register_buffer("variances", torch.ones(count, self.widths))  # v

    @property
    def widths(self) -> int:
        """Return how many variances a component has."""
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
        """Set σ² to the variance of the points, or to the floor where that is higher: the maximum under the floor."""
        variance = scatter / total.unsqueeze(-1)
        with torch.no_grad():
            self.centre.copy_(mean)
            self.variances.copy_(torch.maximum(variance.unflatten(-1, (self.widths, -1)).mean(dim=-1), self.least))
            self.shift.zero_()
            self.log_scale.zero_()


class Spherical(Diagonal):
    """Gaussians N(μ_k, σ_k² I), with σ_k² ≥ floor · (1/D) Σ_d s_d², as in `Diagonal`.

    It has one variance for all columns, so it suits columns of one unit.
    """

    @property
    def widths(self) -> int:
        return 1

    @property
    def least(self) -> Tensor:
        return self.floor * self.unit.square().mean(dim=-1, keepdim=True)

    def standardised(self, x: Tensor) -> Tensor:
        return fill_missing(x.double() - column_moments(x)[0])


class Full(GaussianComponents):
    """Gaussians N(μ_k, Σ_k), where no eigenvalue of any S⁻¹ Σ_k S⁻¹ is below the floor.

    S = diag(s) has the units of the columns. S⁻¹ΣS⁻¹ = U diag(v) Uᵀ and μ are fixed at the start. From there the mean
    is μ + S U diag(√v) b and Σ⁻¹ = P Pᵀ, P = S⁻¹ U diag(v^−½) R C. b and the lower triangular R are learned, from 0
    and from the identity. So a step has the same *relative* size in μ and Σ, whatever the units of x.

    C is diagonal and keeps the floor. With B = U diag(v^−½) R, c_j = min(1, (floor Σ_i |BᵀB|_ij)^−½) makes ‖B C‖² ≤
    1/floor for any R. It is 1 where the columns of B are orthogonal and short enough, as at every start. Arguments
    are those of `GaussianComponents`.

    References:
        Prach & Lampert (2022). Almost-orthogonal layers for efficient general-purpose Lipschitz networks. Theorem 1.
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
        """Return how many covariances there are."""
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
        """Set Σ to the covariance of the points, with eigenvalues below the floor raised to it.

        This is the maximum of the likelihood under the floor. It is computed in the units of the columns. In those of
        the data the smallest eigenvalues would be lost in the rounding of the largest.
        """
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
    """Gaussians N(μ_k, Σ) that share one covariance, as in `Full`."""

    @property
    def shapes(self) -> int:
        return 1

    def _covariances(self, total: Tensor, scatter: Tensor) -> Tensor:
        return scatter.sum(dim=0, keepdim=True) / total.sum()
