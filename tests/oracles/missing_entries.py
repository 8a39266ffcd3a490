"""Densities of the observed entries of x from the full covariance of each component, point by point, by SciPy."""

import math

import numpy as np
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

import pyrovae

KINDS = pyrovae.likelihoods
PAIRS = {  # of five columns
    "gaussian": {},
    "gmm": {"components": 3},
    "gmm Tied": {"components": 3, "covariance": KINDS.Tied},
    "gmm Diagonal": {"components": 3, "covariance": KINDS.Diagonal},
    "gmm Spherical": {"components": 3, "covariance": KINDS.Spherical},
    "ppca": {"latent": 2},
    "factor_analysis": {"latent": 2},
    "mixture_ppca": {"components": 2, "latent": 2},
    "mixture_fa": {"components": 2, "latent": 2},
}

Component = tuple[float, np.ndarray, np.ndarray]  # share, mean, covariance


def points(count: int = 60, dim: int = 5, share: float = 0.3, seed: int = 0) -> Tensor:
    """Correlated points of two clusters, in double precision, with that share of their entries missing at random."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=generator).double()
    x = torch.randn(count, dim, generator=generator).double() @ mixing
    x[: count // 2] += 3
    return torch.where(torch.rand(x.shape, generator=generator) < share, math.nan, x)


def build(name: str, dim: int = 5) -> tuple[object, object]:
    """A pair in double precision."""
    model, guide = pyrovae.load(name.split()[0])(dim, **PAIRS[name])
    return model.double(), guide


def components(model: object) -> list[Component]:
    """The Gaussians that a model is a mixture of."""
    with torch.no_grad():
        if hasattr(model, "density"):
            density = model.density()
            return [(1.0, density.mean.numpy(), density.covariance_matrix.numpy())]
        if hasattr(model, "components"):
            family = model.components.family()
            dense = hasattr(family, "covariance_matrix")
            covariances = family.covariance_matrix if dense else torch.diag_embed(family.variance)
            covariances, means = covariances.expand(len(family.mean), -1, -1), family.mean
        else:
            W, mu = model.W.reshape(-1, *model.W.shape[-2:]), model.mu.reshape(-1, model.mu.shape[-1])
            noise = model.noise.expand(mu.shape)
            covariances, means = W @ W.mT + torch.diag_embed(noise), mu
        shares = model.logits.softmax(-1) if hasattr(model, "logits") else torch.ones(1)
        return [
            (float(share), mean.numpy(), covariance.numpy())
            for share, mean, covariance in zip(shares, means, covariances, strict=True)
        ]


def log_joint(mixture: list[Component], x: Tensor) -> Tensor:
    """log π_k + log N(x_observed | μ_k, Σ_k): (N, K)."""
    rows = []
    for row in x.numpy():
        seen = ~np.isnan(row)
        rows.append(
            [
                math.log(share)
                + (
                    multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)]).logpdf(row[seen])
                    if seen.any()
                    else 0.0
                )
                for share, mean, covariance in mixture
            ]
        )
    return torch.tensor(rows, dtype=torch.float64)


def log_prob(mixture: list[Component], x: Tensor) -> Tensor:
    """log p(x_observed) of each point: (N,)."""
    return log_joint(mixture, x).logsumexp(-1)
