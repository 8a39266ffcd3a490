"""The normal distribution by a factor of its precision: what a density costs is then a matrix product."""

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from .recordings.operations import product


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
        """`log_det` log|det P| (by default that of a triangular P) and `inverse` P⁻¹ (by default computed at the first draw)
        are given where they are at hand."""
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
        if self.loc.dim() > 1 and value.dim() > 1 and value.shape[-2] == 1 < self.loc.shape[-2]:
            # x under K densities: P_kᵀx for all k is one product, about a centre so that the difference loses no digits
            centre = self.loc.detach().mean(dim=-2, keepdim=True)
            white = _product(value - centre, self.factor) + _product(centre - self.loc, self.factor)
        else:
            white = _product(value - self.loc, self.factor)
        return self.log_det - 0.5 * (white.square().sum(-1) + white.shape[-1] * math.log(2 * math.pi))

    def entropy(self) -> Tensor:
        nats = 0.5 * self.event_shape[0] * (1 + math.log(2 * math.pi)) - self.log_det
        return nats.expand(self.batch_shape)


def _product(rows: Tensor, matrix: Tensor) -> Tensor:
    """rowᵀ M over broadcast batches; einsum multiplies what one of them lacks as more rows, where matmul would copy it."""
    rows_under_all = rows.dim() == matrix.dim() == 3 and rows.shape[1] == 1  # N rows, K matrices
    if rows_under_all and not torch.is_grad_enabled():
        return product(rows.squeeze(1), matrix.movedim(0, 1).flatten(1)).unflatten(1, (len(matrix), -1))
    return torch.einsum("...d,...de->...e", rows, matrix)
