"""Probabilistic PCA: z ~ N(0, I), x|z ~ N(Wz + μ, σ²I).

x ~ N(μ, WWᵀ + σ²I) and z|x ~ N(M⁻¹Wᵀ(x − μ), σ²M⁻¹), M = WᵀW + σ²I, are exact (Tipping & Bishop 1999).
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pyrovae

RECIPE = {"steps": 300, "batch_size": 2048, "lr": 2e-2}


class PPCA(pyrovae.Module):
    """z ~ N(0, I_k), x|z ~ N(Wz + μ, σ²I)."""

    initialised: Tensor

    def __init__(self, dim: int, latent: int):
        super().__init__()
        self.W = nn.Parameter(torch.randn(dim, latent) / dim**0.5)
        self.mu = nn.Parameter(torch.zeros(dim))
        self.log_sigma = nn.Parameter(torch.zeros(()))
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.W.shape[1]), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decode(z), self.log_sigma.exp()).to_event(1), obs=x)

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(x | μ, WWᵀ + σ²I): (N, dim) → (N,), nats. O(D k²) by the matrix determinant and inversion lemmas."""
        return dist.LowRankMultivariateNormal(
            self.mu, self.W, (2 * self.log_sigma).exp().expand(len(self.mu))
        ).log_prob(x)

    def posterior(self, x: Tensor) -> dist.MultivariateNormal:
        """p(z|x) = N(M⁻¹Wᵀ(x − μ), σ²M⁻¹)."""
        variance = (2 * self.log_sigma).exp()
        identity = torch.eye(self.W.shape[1], dtype=x.dtype, device=x.device)
        root = torch.linalg.cholesky(self.W.mT @ self.W + variance * identity)  # M = root rootᵀ
        loc = torch.cholesky_solve(self.W.mT @ (x - self.mu).mT, root).mT
        covariance = variance * torch.cholesky_solve(identity, root)
        return dist.MultivariateNormal(loc, scale_tril=torch.linalg.cholesky(covariance))

    def encode(self, x: Tensor) -> Tensor:
        """E[z|x]: (N, dim) → (N, k)."""
        return self.posterior(x).mean

    def decode(self, z: Tensor) -> Tensor:
        """Wz + μ: (*batch, k) → (*batch, dim)."""
        return z @ self.W.mT + self.mu

    def principal_directions(self) -> Tensor:
        """The orthonormal axes of W's span, (dim, k), widest first: at the maximum of the likelihood the leading
        eigenvectors of the data's covariance, each up to its sign."""
        return torch.linalg.svd(self.W.detach(), full_matrices=False)[0]

    def initialise(self, x: Tensor) -> None:
        """Begin at the data's mean and spread, in random directions."""
        with torch.no_grad():
            self.mu.copy_(x.mean(dim=0))
            spread = x.var(dim=0, correction=0).mean().sqrt()
            self.log_sigma.copy_(spread.log())
            self.W.copy_(torch.linalg.qr(torch.randn_like(self.W))[0] * spread)
            self.initialised.fill_(True)


def pair(dim: int, latent: int | None = None, guide: type = pyrovae.ExactPosterior) -> tuple[PPCA, object]:
    """`latent` is 8, or dim − 1 where that is less; `guide` is ExactPosterior, LinearGaussian, or any other for R^k."""
    if latent is None:
        latent = min(8, dim - 1)
    if not 0 < latent < dim:
        raise pyrovae.Refusal(
            f"latent={latent} directions are not between 1 and dim − 1: x has {dim} numbers; set latent."
        )
    model = PPCA(dim, latent)
    return model, guide(model) if guide is pyrovae.ExactPosterior else guide(dim, latent)
