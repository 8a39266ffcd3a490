"""A distribution that is picked from a table of distributions by an index."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor


class Indexed(dist.TorchDistribution):
    """p_z(x): the member of `family` (batch_shape (K,)) that `index` (*batch,) names."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own protocol)
    has_rsample = False

    def __init__(self, family: dist.TorchDistribution, index: Tensor, batch_shape: Any = None):
        """`batch_shape` is what the index stands for by broadcasting: an enumerated z is kept as small as it came."""
        self.family, self.index = family, index
        shape = index.shape if batch_shape is None else torch.Size(batch_shape)
        super().__init__(shape, family.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.family.support

    @property
    def mean(self) -> Tensor:
        return self.family.mean[self.index.expand(self.batch_shape)]

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Indexed":
        return Indexed(self.family, self.index, batch_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        index = self.index.expand(torch.Size(sample_shape) + self.batch_shape)
        every = self.family.sample(index.shape)  # (*batch, K, dim)
        return every.take_along_dim(index[..., None, None], dim=-2).squeeze(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        every = self.family.log_prob(value.unsqueeze(-2))  # (*batch, K)
        points = every.dim() - 1
        if self.index.dim() >= points and torch.Size(self.index.shape[self.index.dim() - points :]).numel() == 1:
            # an enumerated z, one and the same for all points: rows of the table
            rows = every.movedim(-1, 0).index_select(0, self.index.flatten())
            return rows.reshape(*self.index.shape[: self.index.dim() - points], *every.shape[:-1])
        shape = torch.broadcast_shapes(every.shape[:-1], self.index.shape)
        return every.expand(*shape, -1).take_along_dim(self.index.expand(shape).unsqueeze(-1), dim=-1).squeeze(-1)
