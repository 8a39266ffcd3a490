"""Points with missing entries under x = Wz + μ + ε, z ~ N(0, I), ε ~ N(0, diag ψ): their density, p(z|x), and steps of EM.

An entry is missing where x is NaN. Then its row of W says nothing of z. So the precision of z, I + Σ_d w_d w_dᵀ/ψ_d over the
observed entries d, is another for each point. With a leading dimension K in W, μ and ψ there are K such models.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..missing import fill_missing

ELEMENTS = 2**22  # of the points' covariances of z, at once
FEW = 1e-6  # of a column's weight in a component, below which it has no say


class ObservedFactors:
    """N points under one linear Gaussian model, or under K of them.

    Args:
        x: Points (N, D).
        W: Loadings (D, q), or (K, D, q).
        mu: Means (D,), or (K, D).
        noise: Variances ψ, which broadcast to those of `mu`.
    """

    def __init__(self, x: Tensor, W: Tensor, mu: Tensor, noise: Tensor):
        self.W, self.noise = W, noise.expand_as(mu)
        self.observed = (~x.isnan()).to(W)  # (N, D), 0 and 1
        self.residual = (fill_missing(x).to(W) - mu.unsqueeze(-2)) * self.observed  # (*K, N, D)
        self.weight = self.observed / self.noise.unsqueeze(-2)
        outer = (W.unsqueeze(-1) * W.unsqueeze(-2)).flatten(-2)  # (*K, D, q²)
        identity = torch.eye(W.shape[-1], dtype=W.dtype, device=W.device)
        precision = (self.weight @ outer).unflatten(-1, identity.shape) + identity
        self.root = torch.linalg.cholesky_ex(precision).L  # at least the identity: it has a root
        self.inverse = torch.linalg.solve_triangular(self.root, identity, upper=False)
        pull = (self.residual * self.weight) @ W
        self.mean = (self.covariance @ pull.unsqueeze(-1)).squeeze(-1)  # E[z|x], (*K, N, q)

    @property
    def covariance(self) -> Tensor:
        """Cov[z|x]: (*K, N, q, q)."""
        return self.inverse.mT @ self.inverse

    def log_prob(self) -> Tensor:
        """log p(x) of the observed entries: (*K, N), nats. As (x − μ)ᵀ Σ⁻¹ (x − μ) = |x − μ − Wm|²/ψ + |m|², nothing cancels."""
        left = (self.residual - self.mean @ self.W.mT).square() * self.weight
        distance = left.sum(-1) + self.mean.square().sum(-1)
        log_det = 2 * self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_noise = (self.observed * self.noise.log().unsqueeze(-2)).sum(-1)
        return -0.5 * (distance + log_det + log_noise + self.observed.sum(-1) * math.log(2 * math.pi))


class FactorStep(NamedTuple):
    """What a step of EM leads to: the best W, μ and mean squares of the noise, and the weight of each column's entries."""

    W: Tensor
    mu: Tensor
    squares: Tensor  # (D,), or (K, D)
    total: Tensor  # (D,), or (K, D)


def observed_em_step(
    x: Tensor, W: Tensor, mu: Tensor, noise: Tensor, responsibilities: Tensor | None = None
) -> FactorStep:
    """Maximise the expected log p(x_observed, z) over W, μ and ψ, with q(z|x) = p(z|x_observed).

    The latent is z alone. So each row of (W, μ) is a regression of the observed x_d on z and 1. It is in double
    precision. The noise is read from residuals under the new W, in a second pass. As a difference of variances it would
    be lost in rounding.

    References:
        Rubin & Thayer (1982). EM algorithms for ML factor analysis.
        Ghahramani & Hinton (1997). The EM algorithm for mixtures of factor analyzers.

    Args:
        x: Points (N, D).
        W: Loadings (D, q), or (K, D, q).
        mu: Means (D,), or (K, D).
        noise: Variances ψ, which broadcast to those of `mu`.
        responsibilities: The weight of each point in each of K models, (K, N).

    Returns:
        The new W, μ and mean squares of the noise. A column of almost no weight in a model keeps its own.
    """
    W, mu, noise = W.double(), mu.double(), noise.double()
    weights = x.new_ones(len(x), dtype=torch.float64) if responsibilities is None else responsibilities.double()
    rows = max(1, ELEMENTS // (mu.numel() // mu.shape[-1] * (W.shape[-1] ** 2 + mu.shape[-1])))
    chunks = list(zip(x.split(rows), weights.split(rows, dim=-1), strict=True))
    moment = cross = spread = total = torch.zeros((), dtype=torch.float64, device=x.device)
    for chunk, r in chunks:
        posterior = ObservedFactors(chunk, W, mu, noise)
        own = (r.unsqueeze(-1) * posterior.observed).mT  # (*K, D, n)
        z = torch.cat([posterior.mean, torch.ones_like(posterior.mean[..., :1])], dim=-1)
        moment = moment + own @ (z.unsqueeze(-1) * z.unsqueeze(-2)).flatten(-2)
        spread = spread + own @ posterior.covariance.flatten(-2)
        cross = cross + (own * posterior.residual.mT) @ z
        total = total + own.sum(-1)
    size = W.shape[-1]
    spread, moment = spread.unflatten(-1, (size, size)), moment.unflatten(-1, (size + 1, size + 1))
    moment = moment + torch.nn.functional.pad(spread, (0, 1, 0, 1))
    heard = (total > FEW).unsqueeze(-1)
    identity = torch.eye(size + 1, dtype=torch.float64, device=x.device)
    rows_of = torch.linalg.solve(torch.where(heard.unsqueeze(-1), moment, identity), cross)
    new_W = torch.where(heard, rows_of[..., :-1], W)
    shift = rows_of[..., -1] * heard.squeeze(-1)
    squares = torch.einsum("...de,...def,...df->...d", new_W, spread, new_W)
    for chunk, r in chunks:
        posterior = ObservedFactors(chunk, W, mu, noise)
        left = (posterior.residual - shift.unsqueeze(-2) - posterior.mean @ new_W.mT) * posterior.observed
        squares = squares + (r.unsqueeze(-1) * left.square()).sum(-2)
    squares = torch.where(heard.squeeze(-1), squares / total.clamp(min=FEW), noise.expand_as(mu))
    return FactorStep(new_W, mu + shift, squares, total)
