"""Bernoulli pixels whose log-density is one matrix product."""

import pyro.distributions as dist
import torch
from torch import Tensor


class Pixels(dist.Independent):
    """Π_d Bernoulli(x_d; sigmoid(l_d)), whose log-density, where no gradient is asked for, is Σ x_d l_d − Σ log(1 + e^{l_d}).

    The second sum knows no x: it is taken once for all x that share l. The first is a matrix product where every x meets every
    l. Of the logarithms, log(1 + eˡ) = max(l, 0) + log(1 + e^{−|l|}), there is one for up to 64 factors, each between 1 and 2.
    """

    is_matrix_product = True  # densities of N points under K of them take N × K numbers, not N × K × D

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
