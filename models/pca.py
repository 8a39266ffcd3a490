"""Principal component analysis: z ~ N(0, I), x = Wz + μ: probabilistic PCA without its noise, σ → 0.

W = E_k Λ_k^½, of the k leading eigenvectors and eigenvalues of the data's covariance, and z = W⁺(x − μ). No other
linear maps to k numbers and back lose less (Pearson 1901; Hotelling 1933). All x lie in k dimensions of dim, so there
is no density.
"""

import pyro
import pyro.distributions as dist
import torch
from pyrovae.models.autoencoder import SquaredError
from pyrovae.models.ppca import checked_latent
from torch import Tensor, nn

import pyrovae

TRAINING_DEFAULTS = {"epochs": 0}  # it begins at the least error


class PCA(pyrovae.Module):
    """z ~ N(0, I_k), x = Wz + μ."""

    no_density = (
        "PCA has no log p(x): all its x lie in a subspace, outside of which there is no probability; look at its reconstruction "
        "error, or train ppca, which has noise around the same subspace."
    )
    initialised: Tensor
    variances: Tensor

    def __init__(self, dim: int, latent: int):
        super().__init__()
        self.W = nn.Parameter(torch.randn(dim, latent) / dim**0.5)
        self.mu = nn.Parameter(torch.zeros(dim))
        self.register_buffer("variances", torch.ones(dim))
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            latent = self.W.shape[1]
            prior = dist.Normal(x.new_zeros(latent), x.new_ones(latent)).to_event(1)
            z = pyro.sample("z", prior.mask(False))  # drawn from, and no part of the error
            pyro.sample("x", SquaredError(self.decode(z)), obs=x)

    def decode(self, z: Tensor) -> Tensor:
        """x̂ = Wz + μ: (*batch, k) → (*batch, dim)."""
        return z @ self.W.mT + self.mu

    def encode(self, x: Tensor) -> Tensor:
        """z = (WᵀW)⁻¹Wᵀ(x − μ), what PPCA's E[z|x] becomes: (N, dim) → (N, k), white over the data."""
        gram = self.W.mT @ self.W
        return torch.linalg.solve_ex(gram, ((x - self.mu) @ self.W).mT).result.mT

    def error(self, x: Tensor) -> Tensor:
        """‖x − x̂‖²: (N, dim) → (N,). Its mean over the data is the sum of the eigenvalues left out."""
        return SquaredError(self.decode(self.encode(x))).loss(x)

    def eigenvectors(self) -> Tensor:
        """The orthonormal axes of W's span, (dim, k), widest first, each up to its sign."""
        return torch.linalg.svd(self.W.detach(), full_matrices=False)[0]

    def initialise(self, x: Tensor) -> None:
        """Begin, and end, at the eigenvectors of x's covariance (divisor N); `variances` are all its eigenvalues, widest first."""
        latent = self.W.shape[1]
        covariance = torch.cov(x.double().mT, correction=0)
        variances, vectors = (part.flip(-1) for part in torch.linalg.eigh(covariance))
        rank = int((variances > 1e-10 * variances[0]).sum())
        if rank < latent:
            raise pyrovae.InvalidInputError(
                f"The data vary in {rank} directions: there are no {latent} to find; lower latent."
            )
        with torch.no_grad():
            self.mu.copy_(x.mean(dim=0))
            self.W.copy_(vectors[:, :latent] * variances[:latent].sqrt())
            self.variances.copy_(variances)
            self.initialised.fill_(True)


class Projection:
    """z = W⁺(x − μ), a point."""

    def __init__(self, model: PCA):
        self.model = model

    def __call__(self, x: Tensor) -> None:
        z = self.model.encode(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Delta(z, event_dim=1))


def pair(dim: int, latent: int | None = None) -> tuple[PCA, Projection]:
    """`latent` is 8, or dim − 1 where that is less."""
    model = PCA(dim, checked_latent(dim, latent))
    return model, Projection(model)
