"""The continuous Bernoulli from its logit, exact through 0."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor


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
