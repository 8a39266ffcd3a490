"""Normal distributions whose densities cost a matrix product: by a factor of the precision, and diagonal ones."""

import functools
import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor


class PrecisionNormal(dist.TorchDistribution):
    """N(μ, Σ), Σ⁻¹ = P Pᵀ for any square P: log N = −½‖Pᵀ(x − μ)‖² + log|det P| − (D/2) log 2π.

    μ is (*batch, D) and P (*batch, D, D), or with fewer batch dimensions, which are then shared: nothing is copied for them.
    For many x under a few (μ, P) the products are one, where `MultivariateNormal` solves a triangular system for each x and
    each (μ, P). Nothing is read on the host.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own protocol)
    support = dist.constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, factor: Tensor, *, log_det: Tensor | None = None, inverse: Tensor | None = None):
        """Make the distribution.

        Args:
            loc: μ (*batch, D).
            factor: P (*batch, D, D).
            log_det: log|det P|, if it is known. Default: that of a triangular P.
            inverse: P⁻¹, if it is known. Default: computed at the first draw.
        """
        self.loc, self.factor = loc, factor
        self.log_det = factor.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1) if log_det is None else log_det
        self._inverse = inverse
        batch = torch.broadcast_shapes(loc.shape[:-1], factor.shape[:-2])
        super().__init__(batch, loc.shape[-1:], validate_args=False)

    @property
    def inverse(self) -> Tensor:
        """P⁻¹."""
        if self._inverse is None:
            self._inverse = torch.linalg.inv_ex(self.factor).inverse  # inv() would look at its error on the host
        return self._inverse

    def expand(self, batch_shape: Any, _instance: Any = None) -> "PrecisionNormal":
        loc = self.loc.expand(*batch_shape, *self.event_shape)
        return PrecisionNormal(loc, self.factor, log_det=self.log_det, inverse=self._inverse)

    @property
    def mean(self) -> Tensor:
        return self.loc.expand(self.batch_shape + self.event_shape)

    @property
    def covariance_matrix(self) -> Tensor:
        return (self.inverse.mT @ self.inverse).expand(*self.batch_shape, -1, -1)

    @property
    def precision_matrix(self) -> Tensor:
        return (self.factor @ self.factor.mT).expand(*self.batch_shape, -1, -1)

    @property
    def variance(self) -> Tensor:
        return self.inverse.square().sum(-2).expand(self.batch_shape + self.event_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape + self.event_shape
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + _product(noise, self.inverse)

    def log_prob(self, value: Tensor) -> Tensor:
        if not _is_under_all(value, self.loc):
            distance = _product(value - self.loc, self.factor).square().sum(-1)
        elif _is_table(value, self.loc) and self.factor.dim() == 3:
            centre, factors, offset = self._side_by_side
            white = ((value.squeeze(1) - centre) @ factors).unflatten(1, (len(self.factor), -1))
            # in place, for memory that is new costs more than the sums; but not in the half precision of a screen's products
            fits = len(self.factor) == len(offset) and white.dtype == offset.dtype
            distance = (white.add_(offset) if fits else white + offset).square_().sum(-1)
        else:
            centre = self.loc.detach().mean(dim=-2, keepdim=True)
            white = _product(value - centre, self.factor) + _product(centre - self.loc, self.factor)
            distance = white.square().sum(-1)
        return self.log_det - 0.5 * (distance + self.event_shape[0] * math.log(2 * math.pi))

    @functools.cached_property
    def _side_by_side(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return what makes P_kᵀ(x − μ_k) of all k one product, and is the same for all x.

        It is a centre c, about which the difference loses no digits, [P_1 … P_K] (D, K D), and P_kᵀ(c − μ_k). Do not
        use it with gradients, which need a graph of their own for each use.
        """
        centre = self.loc.mean(dim=-2, keepdim=True)
        return centre, self.factor.movedim(0, 1).flatten(1), _product(centre - self.loc, self.factor)

    def entropy(self) -> Tensor:
        nats = 0.5 * self.event_shape[0] * (1 + math.log(2 * math.pi)) - self.log_det
        return nats.expand(self.batch_shape)


class DiagonalNormal(dist.Independent):
    """`DiagonalNormal(Normal(μ, σ), 1)` is N(μ, diag σ²), with a fast density of points under K of them.

    Without gradients it is two matrix products, with y = x − c, m = μ − c and one c for all k:

        Σ_d (x_d − μ_kd)² / σ_kd² = Σ_d y_d² / σ_kd² − 2 Σ_d y_d m_kd / σ_kd² + Σ_d m_kd² / σ_kd².

    These terms cancel, so the products are in double precision. The error is at most
    2⁻⁵² (D + 4) Σ_d (|y_d| + |m_kd|)² / σ_kd² nats. It is less than 10⁻⁶ for 784 pixels in [0, 1] and σ² = 10⁻³.
    """

    is_matrix_product = True  # densities of N points under K of them take N × K numbers, not N × K × D

    def log_prob(self, value: Tensor) -> Tensor:
        loc = self.base_dist.loc
        if not _is_table(value, loc):
            return super().log_prob(value)
        centre, precision, linear, constant = self._quadratic
        y = value.squeeze(1).to(torch.float64, copy=True).sub_(centre).mT  # in place: as above
        terms = torch.addmm(constant, linear, y).addmm_(precision, y.square_())
        return (-0.5 * terms).mT.to(torch.result_type(value, loc))

    @functools.cached_property
    def _quadratic(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """c (D,), and what y² (D, N), y and 1 are multiplied by, (K, D), (K, D) and (K, 1), in −2 log N of all K."""
        loc, precision = self.base_dist.loc.double(), self.base_dist.scale.double().square().reciprocal()
        centre = loc.mean(dim=-2)
        m = loc - centre
        constant = (m.square() * precision + (2 * math.pi / precision).log()).sum(-1, keepdim=True)
        return centre, precision, -2 * m * precision, constant


def _is_under_all(value: Tensor, loc: Tensor) -> bool:
    """Whether value (*batch, 1, D) are points under all of K means (*batch, K, D)."""
    return loc.dim() > 1 and value.dim() > 1 and value.shape[-2] == 1 < loc.shape[-2]


def _is_table(value: Tensor, loc: Tensor) -> bool:
    """Whether value is (N, 1, D), under all of K means (K, D), and no gradient is asked for."""
    return value.dim() == 3 and loc.dim() == 2 and _is_under_all(value, loc) and not torch.is_grad_enabled()


def _product(rows: Tensor, matrix: Tensor) -> Tensor:
    """rowᵀ M over broadcast batches; einsum multiplies what one of them lacks as more rows, where matmul would copy it."""
    return torch.einsum("...d,...de->...e", rows, matrix)
