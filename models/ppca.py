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
DENSE = 1024  # columns up to which a start decomposes their covariance
LEAST_NOISE = 1e-8  # σ², as a fraction of the smallest variance of a column
EM_STEPS, EM_TOLERANCE = 200, 1e-6  # of a start where entries are missing, nats per point
TRAINING_DEFAULTS = {"steps": 300, "batch_size": 4096, "lr": 1e-3}


class FactorModel(pyrovae.Module):
    """z ~ N(0, I_k), x|z ~ N(Wz + μ, diag ψ): what PPCA (ψ = σ²) and factor analysis have in common."""

    handles_missing = True  # NaN in x is integrated out
    initialised: Tensor
    unit: Tensor

    def __init__(self, dim: int, latent: int):
        super().__init__()
        self.register_buffer("unit", torch.ones(dim))  # of each column: its standard deviation, once there are data
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
            density = dist.Normal(self.decode(z), self.noise.sqrt()).to_event(1)
            pyro.sample("x", pyrovae.distributions.observed(density, x), obs=x)

    def decode(self, z: Tensor) -> Tensor:
        """Wz + μ: (*batch, k) → (*batch, dim)."""
        return z @ self.W.mT + self.mu

    def inverse_model(self) -> tuple[Tensor, Tensor, Tensor]:
        """Lower triangular C with CCᵀ = I + Wᵀψ⁻¹W, the precision of z|x; C⁻¹; and G (dim, k) with E[z|x] = Gᵀ(x − μ)."""
        return inverse_model(self.W, self.noise)

    def log_prob(self, x: Tensor) -> Tensor:
        """Compute log N(x | μ, WWᵀ + diag ψ): (N, dim) → (N,), nats.

        It costs O(D k²) by the determinant lemma. With m = E[z|x], (x − μ)ᵀ(WWᵀ + ψ)⁻¹(x − μ) = |x − μ − Wm|²/ψ +
        |m|². It is in double precision: where columns differ in scale, x − μ and Wm may agree in all digits of single
        precision.
        """
        W, mu, noise = self.W.double(), self.mu.double(), self.noise.double()
        if pyrovae.nn.has_missing(x):
            return pyrovae.distributions.ObservedFactors(x, W, mu, noise).log_prob().to(x.dtype)
        root, _, gain = inverse_model(W, noise)
        centred = x.double() - mu
        m = centred @ gain
        distance = ((centred - m @ W.mT).square() / noise).sum(-1) + m.square().sum(-1)
        log_det = 2 * root.diagonal().log().sum() + noise.log().expand(len(mu)).sum()
        return (-0.5 * (distance + log_det + len(mu) * math.log(2 * math.pi))).to(x.dtype)

    def posterior(self, x: Tensor) -> pyrovae.distributions.PrecisionNormal:
        """p(z|x) = N(E[z|x], (I + Wᵀψ⁻¹W)⁻¹), of W and ψ the rows of the observed entries."""
        if pyrovae.nn.has_missing(x):
            given = pyrovae.distributions.ObservedFactors(x, self.W, self.mu, self.noise)
            return pyrovae.distributions.PrecisionNormal(given.mean, given.root, inverse=given.inverse)
        root, inverse, gain = self.inverse_model()
        return pyrovae.distributions.PrecisionNormal((x - self.mu) @ gain, root, inverse=inverse)

    def conditional(self, x: Tensor) -> pyrovae.distributions.Conditional:
        """Return p(x|observed entries of x): a normal for each point."""
        W, mu, noise = self.W.unsqueeze(0), self.mu.unsqueeze(0), self.noise.expand(1, len(self.mu))
        return pyrovae.distributions.conditional_of_factors(x, W, mu, noise, x.new_zeros(len(x), 1))

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

        Sums are in double precision and about the mean. ψ is the mean square of residuals under the new W, from a
        second pass. As a difference of variances it would be lost in the rounding of the largest.

        Where entries of x are missing, q(z|x) is given the observed ones, and W, μ and ψ become the best for these.

        Returns:
            The mean log p(x) before the step, (), nats per point. Up to rounding, the next step's is never lower.
        """
        if pyrovae.nn.has_missing(x):
            return self._em_step_of_observed(x)
        with torch.no_grad():
            chunks = x.split(max(1, NUMBERS // x.shape[1]))
            log_p = cross = second = residual = x.new_zeros((), dtype=torch.float64)
            mean = pyrovae.nn.column_moments(x)[0]
            _, inverse, gain = inverse_model(self.W.double(), self.noise.double())
            covariance = inverse.mT @ inverse  # of z given x
            for chunk in chunks:
                log_p = log_p + self.log_prob(chunk).double().sum()
                centred = chunk.double() - mean
                m = centred @ gain
                cross = cross + centred.mT @ m
                second = second + m.mT @ m
            W = torch.linalg.solve(len(x) * covariance + second, cross, left=False)  # (Σ_n x zᵀ)(Σ_n E[z zᵀ | x_n])⁻¹
            for chunk in chunks:
                centred = chunk.double() - mean
                residual = residual + (centred - centred @ gain @ W.mT).square().sum(dim=0)
            self.mu.copy_(mean)
            self.W.copy_(W)
            self.set_noise(residual / len(x) + ((W @ covariance) * W).sum(-1))
            return log_p / len(x)

    def _em_step_of_observed(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            rows = max(1, NUMBERS // (self.W.shape[0] + self.W.shape[1] ** 2))
            log_p = torch.cat([self.log_prob(chunk).double() for chunk in x.split(rows)])
            step = pyrovae.distributions.observed_em_step(x, self.W, self.mu, self.noise)
            self.mu.copy_(step.mu)
            self.W.copy_(step.W)
            self.set_noise(step.squares, step.total)
            return log_p.mean()

    def set_noise(self, residual: Tensor, total: Tensor | None = None) -> None:
        """Set ψ to its best for residuals of these mean squares (dim,), of so many entries each, or of equally many."""
        raise NotImplementedError

    def parameter_units(self) -> list[tuple[Tensor, Tensor]]:
        """Rows of W and μ have the units of x's columns, and training steps of their size."""
        return [(self.W, self.unit.unsqueeze(-1)), (self.mu, self.unit)]

    def climb(self, x: Tensor) -> None:
        """Make steps of EM from a start where entries of x are missing."""
        if pyrovae.nn.has_missing(x):
            pyrovae.EM(steps=EM_STEPS, tol=EM_TOLERANCE)(self, x)

    def begin(self, x: Tensor, *, standardised: bool) -> tuple[Tensor, Tensor]:
        """Set μ, W and the units of the columns from a subset of x.

        W spans the principal directions, of the standardised columns or of x as it is. Missing entries count as the
        means of their columns: `climb` leaves such values behind.

        Returns:
            The mean of the eigenvalues that W leaves out, (), and what it leaves of each column's variance, (dim,).
        """
        latent = self.W.shape[1]
        subset = x[torch.randperm(len(x), device=x.device)[:SUBSET]]
        mean, sd = pyrovae.nn.column_moments(subset)
        scale = torch.ones_like(sd) if standardised else sd
        rank = min(latent, len(subset))
        variances, axes, rest = principal_axes(pyrovae.nn.fill_missing((subset.double() - mean) / sd), scale, rank)
        with torch.no_grad():
            self.unit.copy_(sd)
            self.mu.copy_(mean)
            W = self.W.normal_().double() * 0.01 * rest.sqrt()  # what the data do not span
            W[:, :rank] = axes * (variances - rest).clamp(min=1e-4 * rest).sqrt()
            left = scale.square() - W.square().sum(dim=-1)
            back = sd / scale
            self.W.copy_(W * back.unsqueeze(-1))
            self.initialised.fill_(True)
        return rest, left * back.square()


def inverse_model(W: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """C, C⁻¹ and G of `FactorModel.inverse_model`, of any W (dim, k) and ψ, () or (dim,)."""
    scaled = W / noise.unsqueeze(-1)
    identity = torch.eye(W.shape[1], dtype=W.dtype, device=W.device)
    root = torch.linalg.cholesky_ex(identity + W.mT @ scaled).L  # at least the identity: it has a root
    inverse = torch.linalg.solve_triangular(root, identity, upper=False)
    return root, inverse, scaled @ (inverse.mT @ inverse)


def principal_axes(y: Tensor, scale: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest eigenvalues of the covariance of scale · y, their eigenvectors, and the mean of the others.

    With R = Cov(y) = E Λ Eᵀ they are the squared singular values of diag(scale) E Λ^½. The smallest are then right to
    10⁻¹⁶ of the largest. Those of the covariance itself would be right to the square root of that. Above DENSE
    columns a randomised decomposition replaces R (Halko, Martinsson & Tropp 2011).

    Args:
        y: Standardised points (N, dim), in double precision.
        scale: The scale of each column, (dim,).
        count: How many eigenvalues.
    """
    dim = y.shape[1]
    if dim <= DENSE:
        values, vectors = torch.linalg.eigh(y.mT @ y / len(y))
        factor = scale.unsqueeze(-1) * vectors * values.clamp(min=0).sqrt()
        axes, widths, _ = torch.linalg.svd(factor)
        rest = widths[count:].square().mean()
    else:
        x = y * scale
        widths, axes = torch.svd_lowrank(x, q=min(2 * count + 10, *x.shape), niter=4)[1:]
        widths = widths / len(x) ** 0.5
        rest = (x.square().sum() / len(x) - widths[:count].square().sum()).clamp(min=0) / (dim - count)
    return widths[:count].square(), axes[:, :count], rest


class PPCA(FactorModel):
    """z ~ N(0, I_k), x|z ~ N(Wz + μ, σ²I)."""

    def __init__(self, dim: int, latent: int):
        super().__init__(dim, latent)
        self.log_sigma = nn.Parameter(torch.zeros(()))

    @property
    def noise(self) -> Tensor:
        return (2 * self.log_sigma).exp()

    def set_noise(self, residual: Tensor, total: Tensor | None = None) -> None:
        least = LEAST_NOISE * self.unit.double().square().min()
        mean = residual.double().mean() if total is None else (residual * total).sum() / total.sum()
        self.log_sigma.copy_(0.5 * torch.maximum(mean, least).log())

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
        """Begin at the maximum of the likelihood of a subset of x (Tipping & Bishop 1999, eq. 3.7 and 3.8).

        Raises `InvalidInputError` where W may hold all points: then σ² has no maximum above 0.
        """
        points, latent = len(x), self.W.shape[1]
        if self.log_sigma.requires_grad and latent >= points - 1:
            raise pyrovae.InvalidInputError(
                f"latent={latent} directions hold all of {points} points, which leaves no noise: the likelihood has no maximum. "
                f"Give latent={max(1, points - 2)} or less, or more points."
            )
        rest, _ = self.begin(x, standardised=False)
        with torch.no_grad():
            self.set_noise(rest)
        self.climb(x)


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
