"""Probabilistic PCA: z ~ N(0, I), x|z ~ N(Wz + μ, σ²I).

x ~ N(μ, WWᵀ + σ²I) and z|x, a Gaussian whose precision is I + WᵀW/σ², are exact (Tipping & Bishop 1999).
"""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pyrovae

SUBSET = 20_000  # points that a start is computed from
NUMBERS = 2**22  # of x at once in a step of EM
TRAINING_DEFAULTS = {"steps": 300, "batch_size": 4096, "lr": 1e-3}


class FactorModel(pyrovae.Module):
    """z ~ N(0, I_k), x|z ~ N(Wz + μ, diag ψ): what PPCA (ψ = σ²) and factor analysis have in common."""

    initialised: Tensor

    def __init__(self, dim: int, latent: int):
        super().__init__()
        self.W = nn.Parameter(torch.randn(dim, latent) / dim**0.5)
        self.mu = nn.Parameter(torch.zeros(dim))
        self.register_buffer("initialised", torch.tensor(False))

    @property
    def noise(self) -> Tensor:
        """ψ: () or (dim,)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            latent = self.W.shape[1]
            z = pyro.sample("z", dist.Normal(x.new_zeros(latent), x.new_ones(latent)).to_event(1))
            pyro.sample("x", dist.Normal(self.decode(z), self.noise.sqrt()).to_event(1), obs=x)

    def decode(self, z: Tensor) -> Tensor:
        """Wz + μ: (*batch, k) → (*batch, dim)."""
        return z @ self.W.mT + self.mu

    def inverse_model(self) -> tuple[Tensor, Tensor, Tensor]:
        """Lower triangular C with CCᵀ = I + Wᵀψ⁻¹W, the precision of z|x; C⁻¹; and G (dim, k) with E[z|x] = Gᵀ(x − μ)."""
        scaled = self.W / self.noise.unsqueeze(-1)
        identity = torch.eye(self.W.shape[1], dtype=self.W.dtype, device=self.W.device)
        root = torch.linalg.cholesky_ex(identity + self.W.mT @ scaled).L  # at least the identity: it has a root
        inverse = torch.linalg.solve_triangular(root, identity, upper=False)
        return root, inverse, scaled @ (inverse.mT @ inverse)

    def log_prob(self, x: Tensor) -> Tensor:
        """Compute log N(x | μ, WWᵀ + diag ψ): (N, dim) → (N,), nats.

        It costs O(D k²) by the determinant lemma. With m = E[z|x], (x − μ)ᵀ(WWᵀ + ψ)⁻¹(x − μ) = |x − μ − Wm|²/ψ +
        |m|², in which nothing cancels.
        """
        root, _, gain = self.inverse_model()
        m = (x - self.mu) @ gain
        distance = ((x - self.decode(m)).square() / self.noise).sum(-1) + m.square().sum(-1)
        log_det = 2 * root.diagonal().log().sum() + self.noise.log().expand(len(self.mu)).sum()
        return -0.5 * (distance + log_det + len(self.mu) * math.log(2 * math.pi))

    def posterior(self, x: Tensor) -> pyrovae.distributions.PrecisionNormal:
        """p(z|x) = N(E[z|x], (I + Wᵀψ⁻¹W)⁻¹)."""
        root, inverse, gain = self.inverse_model()
        return pyrovae.distributions.PrecisionNormal((x - self.mu) @ gain, root, inverse=inverse)

    @property
    def num_redundant_parameters(self) -> int:
        """The number of parameters beyond the degrees of freedom of p(x).

        A rotation of the latents changes no density, and a covariance has dim (dim + 1)/2 numbers.
        """
        dim, latent = self.W.shape
        return max(latent * (latent - 1) // 2, dim * latent + self.noise.numel() - dim * (dim + 1) // 2)

    def encode(self, x: Tensor) -> Tensor:
        """E[z|x]: (N, dim) → (N, k)."""
        return self.posterior(x).mean

    def em_step(self, x: Tensor) -> Tensor:
        """Make one step of EM over all of x (N, dim) (Rubin & Thayer 1982; Tipping & Bishop 1999, appendix B).

        μ becomes the mean, q(z|x) becomes p(z|x), and W and ψ become the best for those. No covariance of x is
        formed.

        Returns:
            The mean log p(x) before the step, (), nats per point. Up to rounding, the next step's is never lower.
        """
        with torch.no_grad():
            log_p = square = cross = second = x.new_zeros(())
            mean = x.mean(dim=0)
            _, inverse, gain = self.inverse_model()
            for chunk in x.split(max(1, NUMBERS // x.shape[1])):
                log_p = log_p + self.log_prob(chunk).sum()
                centred = chunk - mean
                m = centred @ gain
                square = square + centred.square().sum(dim=0)
                cross = cross + centred.mT @ m
                second = second + m.mT @ m
            self.mu.copy_(mean)
            moment = len(x) * (inverse.mT @ inverse) + second  # Σ_n E[z zᵀ | x_n]
            self.W.copy_(torch.linalg.solve(moment, cross, left=False))
            self.set_noise((square - (self.W * cross).sum(-1)) / len(x))
            return log_p / len(x)

    def set_noise(self, residual: Tensor) -> None:
        """Set ψ to its best for residuals of these mean squares (dim,)."""
        raise NotImplementedError

    def begin(self, x: Tensor, scale: Tensor) -> None:
        """Begin at the principal directions of a subset of x, in units of `scale` (dim,).

        A randomised singular value decomposition (Halko, Martinsson & Tropp 2011) finds them. The variance that they
        leave becomes the noise.
        """
        dim, latent = self.W.shape
        subset = x[torch.randperm(len(x), device=x.device)[:SUBSET]]
        mean = subset.mean(dim=0)
        y = (subset - mean) / scale
        rank = min(latent, *y.shape)
        singular, axes = torch.svd_lowrank(y, q=min(2 * latent + 10, *y.shape), niter=4)[1:]
        variance = singular[:rank].square() / len(y)
        rest = ((y.square().sum() / len(y) - variance.sum()) / max(1, dim - rank)).clamp(min=1e-6)
        with torch.no_grad():
            self.mu.copy_(mean)
            self.W.normal_().mul_(0.01 * rest.sqrt())  # what the data do not span
            self.W[:, :rank] = axes[:, :rank] * (variance - rest).clamp(min=1e-4 * rest).sqrt()
            unexplained = y.square().mean(dim=0) - self.W.square().sum(dim=-1)
            self.W.mul_(scale.unsqueeze(-1))
            self.set_noise(unexplained * scale.square())
            self.initialised.fill_(True)


class PPCA(FactorModel):
    """z ~ N(0, I_k), x|z ~ N(Wz + μ, σ²I)."""

    def __init__(self, dim: int, latent: int):
        super().__init__(dim, latent)
        self.log_sigma = nn.Parameter(torch.zeros(()))

    @property
    def noise(self) -> Tensor:
        return (2 * self.log_sigma).exp()

    def set_noise(self, residual: Tensor) -> None:
        self.log_sigma.copy_(0.5 * residual.mean().clamp(min=1e-12).log())

    def principal_directions(self) -> Tensor:
        """Return orthonormal axes of the span of W, (dim, k), widest first.

        At the maximum of the likelihood they are the leading eigenvectors of the covariance of the data, each up to
        its sign.
        """
        return torch.linalg.svd(self.W.detach(), full_matrices=False)[0]

    @staticmethod
    def minka_latent(x: Tensor) -> int:
        """The number of latents with the largest Laplace approximation of log p(x (N, dim) | latent), by scikit-learn (Minka 2000)."""
        from sklearn.decomposition import PCA  # here, because scikit-learn is slow to import

        return int(PCA("mle", svd_solver="full").fit(x.double().cpu()).n_components_)

    def initialise(self, x: Tensor) -> None:
        """Begin at the maximum of the likelihood of a subset of x (Tipping & Bishop 1999, eq. 3.7 and 3.8)."""
        self.begin(x, x.new_ones(x.shape[1]))


def pair(dim: int, latent: int | None = None, guide: type = pyrovae.guides.ExactPosterior) -> tuple[PPCA, object]:
    """Build the model and its guide.

    Args:
        dim: D, the size of one point x.
        latent: k, the size of z: 8, or D − 1 if that is less.
        guide: ExactPosterior, LinearGaussian, or any other for R^k.
    """
    latent = checked_latent(dim, latent)
    model = PPCA(dim, latent)
    return model, guide(model) if guide is pyrovae.guides.ExactPosterior else guide(dim, latent)


def checked_latent(dim: int, latent: int | None) -> int:
    """Return k, 8 or D − 1 if it is not given. It must lie between 1 and D − 1."""
    if latent is None:
        latent = min(8, dim - 1)
    if not 0 < latent < dim:
        raise pyrovae.InvalidInputError(
            f"latent={latent} directions are not between 1 and dim − 1: x has {dim} numbers; set latent."
        )
    return latent
