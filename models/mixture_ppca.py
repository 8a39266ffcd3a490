"""Mixture of probabilistic PCAs: k ~ Cat(π), z ~ N(0, I), x|k,z ~ N(W_k z + μ_k, σ_k² I).

log p(x) = log Σ_k π_k N(x | μ_k, W_k W_kᵀ + σ_k² I) and both latents' posteriors, p(k|x) and the Gaussian p(z|x, k), are exact
(Tipping & Bishop 1999, Mixtures of probabilistic principal component analysers).
"""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pyrovae

SUBSET = 20_000  # points that a start is computed from
NUMBERS = 2**22  # of x − μ_k at once in a step of EM
AT_FLOOR = 1e-3  # relative: noise so near its floor is said to be at it
TRAINING_DEFAULTS = {"steps": 50, "batch_size": 2048, "lr": 1e-3}


class MixtureOfFactors(pyrovae.Module):
    """k ~ Cat(π), z ~ N(0, I_q), x|k,z ~ N(W_k z + μ_k, diag ψ_k).

    It is the base of mixtures of PPCAs (ψ = σ²) and of factor analysers. ψ_k = floor · (units of the noise)² +
    exp(ρ_k). The units are those of the data that it begins at, and 1 before.
    """

    handles_missing = True  # NaN in x is integrated out
    initialised: Tensor
    unit: Tensor
    standardised: bool  # distances between points, and the first directions, are those of standardised columns

    def __init__(self, dim: int, components: int, latent: int, noises: int, floor: float):
        """`noises` is how many ψ a component has: 1, or `dim`."""
        super().__init__()
        if components < 1 or not 0 < latent < dim:
            raise pyrovae.InvalidInputError(
                f"{components} components of {latent} directions: give at least 1 component, and 1 to {dim - 1} directions."
            )
        if not 0 < floor < math.inf:
            raise pyrovae.InvalidInputError(f"floor={floor} is no floor of variances: give a number above 0.")
        self.floor = floor
        self.logits = nn.Parameter(torch.zeros(components))
        self.W = nn.Parameter(torch.randn(components, dim, latent) / dim**0.5)
        self.mu = nn.Parameter(torch.randn(components, dim))
        self.rho = nn.Parameter(torch.zeros(components, noises))
        self.register_buffer("unit", torch.ones(dim))  # of each column: its standard deviation
        self.register_buffer("initialised", torch.tensor(False))

    @property
    def num_redundant_parameters(self) -> int:
        """As of PPCA and factor analysis, in each component; and a constant added to the logits changes no density."""
        components, dim, latent = self.W.shape
        excess = dim * latent + self.rho.shape[1] - dim * (dim + 1) // 2
        return 1 + components * max(latent * (latent - 1) // 2, excess)

    @property
    def least(self) -> Tensor:
        """The least ψ: (1,) or (dim,)."""
        raise NotImplementedError

    @property
    def noise(self) -> Tensor:
        """ψ: (K, 1) or (K, dim)."""
        return self.least + self.rho.exp()

    def directions_at_floor(self) -> Tensor:
        """Which columns of which component have the least noise: (K, dim)."""
        at_floor = self.noise.detach() <= self.least * (1 + AT_FLOOR)
        return at_floor.double().expand(self.mu.shape)

    def parameter_units(self) -> list[tuple[Tensor, Tensor]]:
        """Rows of W_k and μ_k have the units of x's columns, and training steps of their size."""
        return [(self.W, self.unit.unsqueeze(-1)), (self.mu, self.unit)]

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(logits=self.logits))
            latent = self.W.shape[-1]
            z = pyro.sample("z", dist.Normal(x.new_zeros(latent), x.new_ones(latent)).to_event(1))
            density = dist.Normal(self.decode(k, z), self.noise[k].sqrt()).to_event(1)
            pyro.sample("x", pyrovae.distributions.observed(density, x), obs=x)

    def decode(self, k: Tensor, z: Tensor) -> Tensor:
        """W_k z + μ_k: (*batch,), (*batch, q) → (*batch, dim)."""
        return torch.einsum("...dq,...q->...d", self.W[k], z) + self.mu[k]

    def inverse_model(self, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return, for every k, C, C⁻¹ and G.

        C is lower triangular with CCᵀ = I + Wᵀψ⁻¹W, the precision of z|x,k. G is (K, dim, q), with E[z|x,k] = G_kᵀ(x
        − μ_k).
        """
        W = self.W.to(dtype or self.W.dtype)
        scaled = W / self.noise.to(W).unsqueeze(-1)
        identity = torch.eye(W.shape[-1], dtype=W.dtype, device=W.device)
        root = torch.linalg.cholesky_ex(identity + W.mT @ scaled).L  # at least the identity: it has a root
        inverse = torch.linalg.solve_triangular(root, identity, upper=False)
        return root, inverse, scaled @ (inverse.mT @ inverse)

    def log_joint(self, x: Tensor) -> Tensor:
        """Compute log π_k + log N(x_n | μ_k, W_k W_kᵀ + diag ψ_k): (N, dim) → (N, K), nats.

        It is in double precision and, as in factor analysis, nothing cancels.
        """
        if pyrovae.nn.has_missing(x):
            given = pyrovae.distributions.ObservedFactors(x, self.W.double(), self.mu.double(), self.noise.double())
            return (self.logits.double().log_softmax(-1) + given.log_prob().mT).to(x.dtype)
        root, _, gain = self.inverse_model(torch.float64)
        noise = self.noise.double()
        centred = x.double() - self.mu.double().unsqueeze(1)  # (K, N, dim)
        m = centred @ gain
        distance = ((centred - m @ self.W.double().mT).square() / noise.unsqueeze(1)).sum(-1) + m.square().sum(-1)
        log_det = 2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1) + noise.log().expand_as(self.mu).sum(-1)
        constant = log_det + self.mu.shape[-1] * math.log(2 * math.pi)
        return (self.logits.double().log_softmax(-1) - 0.5 * (distance.mT + constant)).to(x.dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x_n): (N, dim) → (N,), nats."""
        return self.log_joint(x).logsumexp(-1)

    def responsibilities(self, x: Tensor) -> dist.Categorical:
        """p(k|x)."""
        return dist.Categorical(logits=self.log_joint(x))

    def conditional(self, x: Tensor) -> pyrovae.distributions.Conditional:
        """Return p(x|observed entries of x): a mixture of normals for each point."""
        log_shares = self.log_joint(x).detach()
        return pyrovae.distributions.conditional_of_factors(x, self.W, self.mu, self.noise, log_shares)

    def posterior_given(self, x: Tensor, k: Tensor) -> pyrovae.distributions.PrecisionNormal:
        """p(z|x, k) of every point, for k (*batch, N) or (*batch, 1)."""
        every = torch.arange(len(x), device=x.device)
        if pyrovae.nn.has_missing(x):
            given = pyrovae.distributions.ObservedFactors(x, self.W, self.mu, self.noise)
            parts = (part[k, every] for part in (given.mean, given.root, given.inverse))
            mean, root, inverse = parts
            return pyrovae.distributions.PrecisionNormal(mean, root, inverse=inverse)
        root, inverse, gain = self.inverse_model()
        means = (x - self.mu.unsqueeze(1)) @ gain  # (K, N, q)
        return pyrovae.distributions.PrecisionNormal(means[k, every], root[k], inverse=inverse[k])

    def em_step(self, x: Tensor) -> Tensor:
        """Make one step of EM over all of x (N, dim), in two stages (Tipping & Bishop 1999, appendix C).

        The first sets π and μ for q(k|x) = p(k|x). The second sets W and ψ for those and q(z|x,k) = p(z|x,k).
        Where entries of x are missing, one stage sets all for both posteriors given the observed ones.

        Returns:
            The mean log p(x) before the step, (), nats per point. Up to rounding, the next step's is never lower.
        """
        if pyrovae.nn.has_missing(x):
            return self._em_step_of_observed(x)
        with torch.no_grad():
            chunks = x.split(max(1, NUMBERS // self.mu.numel()))
            joint = torch.cat([self.log_joint(chunk) for chunk in chunks]).double()
            log_p = joint.logsumexp(-1)
            q = (joint - log_p.unsqueeze(-1)).exp()
            total = q.sum(dim=0).clamp(min=1e-8)
            mu = self.mu.double()
            shift = torch.stack([r @ (x.double() - centre) for r, centre in zip(q.mT, mu, strict=True)])
            mu = mu + shift / total.unsqueeze(-1)
            self.mu.copy_(mu)
            self.logits.copy_((total / total.sum()).log())
            _, inverse, gain = self.inverse_model(torch.float64)
            covariance = inverse.mT @ inverse  # of z given x and k
            parts = list(zip(chunks, q.split(len(chunks[0])), strict=True))
            cross = second = residual = x.new_zeros((), dtype=torch.float64)
            for chunk, r in parts:
                centred = chunk.double() - mu.unsqueeze(1)
                m = centred @ gain
                weighted = m * r.mT.unsqueeze(-1)
                cross = cross + centred.mT @ weighted
                second = second + m.mT @ weighted
            moment = total[:, None, None] * covariance + second  # Σ_n q(k|x_n) E[z zᵀ | x_n, k]
            W = torch.linalg.solve(moment, cross, left=False)
            for chunk, r in parts:  # residuals, not differences of variances, which may be rounding
                centred = chunk.double() - mu.unsqueeze(1)
                squares = (centred - centred @ gain @ W.mT).square()
                residual = residual + (r.mT.unsqueeze(1) @ squares).squeeze(1)
            self.W.copy_(W)
            self.set_noise(residual / total.unsqueeze(-1) + ((W @ covariance) * W).sum(-1))
            return log_p.mean()

    def _em_step_of_observed(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            rows = max(1, NUMBERS // (self.mu.numel() + len(self.W) * self.W.shape[-1] ** 2))
            joint = torch.cat([self.log_joint(chunk) for chunk in x.split(rows)]).double()
            log_p = joint.logsumexp(-1)
            q = (joint - log_p.unsqueeze(-1)).exp().mT
            step = pyrovae.distributions.observed_em_step(x, self.W, self.mu, self.noise, q)
            total = q.sum(dim=-1).clamp(min=1e-8)
            self.logits.copy_((total / total.sum()).log())
            self.mu.copy_(step.mu)
            self.W.copy_(step.W)
            self.set_noise(step.squares, step.total)
            return log_p.mean()

    def set_noise(self, residual: Tensor, total: Tensor | None = None) -> None:
        """Set ψ to its best for residuals of these mean squares (K, dim), but never below the floor.

        `total` is how many entries each is of, (K, dim), if not equally many.
        """
        if self.rho.shape[-1] == 1:
            weight = torch.ones_like(residual) if total is None else total.clamp(min=1e-8)
            residual = (residual * weight).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)
        least = self.least.double()
        self.rho.copy_(torch.maximum(residual - least, 1e-6 * least).log())

    def initialise(self, x: Tensor) -> None:
        """Begin where 50 steps of EM lead from k-means: its shares and means, and the principal directions of each cluster."""
        from sklearn.cluster import KMeans  # here, because scikit-learn is slow to import

        subset = x[torch.randperm(len(x), device=x.device)[:SUBSET]]
        count, latent = self.W.shape[0], self.W.shape[-1]
        mean, sd = pyrovae.nn.column_moments(subset)
        scale = sd if self.standardised else torch.ones_like(sd)
        points = pyrovae.nn.fill_missing((subset.double() - mean) / scale)
        different = len(points.unique(dim=0))
        if different < count:
            raise pyrovae.InvalidInputError(
                f"{count} components need at least as many different points; there are {different}: lower components, or give "
                "more data."
            )
        seed = int(torch.randint(2**31 - 1, ()))
        labels = torch.as_tensor(KMeans(count, n_init=1, random_state=seed).fit(points.cpu()).labels_, device=x.device)
        residual = torch.empty_like(points[:count])
        with torch.no_grad():
            self.unit.copy_(sd)
            least = (self.least.double() / scale.square()).mean()
            self.W.zero_()
            for k in range(count):
                cluster = points[labels == k]
                centre = cluster.mean(dim=0)
                y = cluster - centre
                self.logits[k] = math.log(len(cluster))
                self.mu[k] = mean + scale * centre
                rank = min(latent, len(y) - 1)
                singular, axes = torch.linalg.svd(y, full_matrices=False)[1:]
                variance = singular.square() / len(y)
                rest = (variance[rank:].sum() / (y.shape[1] - rank)).clamp(min=least)
                W = axes[:rank].mT * (variance[:rank] - rest).clamp(min=1e-4 * least).sqrt()
                self.W[k, :, :rank] = scale.unsqueeze(-1) * W
                residual[k] = scale.square() * (y.square().mean(dim=0) - W.square().sum(dim=-1))
                if self.rho.shape[-1] == 1:
                    residual[k] = rest
            self.set_noise(residual)
            self.initialised.fill_(True)
        pyrovae.EM(steps=50)(self, x)


class MixturePPCA(MixtureOfFactors):
    """ψ_k = σ_k² I, σ_k² above `floor` times the smallest variance of a column: columns of one unit have one noise."""

    standardised = False

    @property
    def least(self) -> Tensor:
        return self.floor * self.unit.square().amin(dim=-1, keepdim=True)

    def __init__(self, dim: int, components: int, latent: int, floor: float):
        super().__init__(dim, components, latent, 1, floor)


class JointPosterior:
    """q(k, z|x) = p(k|x) p(z|x, k), exact: every log-weight is log p(x)."""

    def __init__(self, model: MixtureOfFactors):
        self.model = model

    def __call__(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", self.model.responsibilities(x), infer={"enumerate": "parallel"})
            pyro.sample("z", self.model.posterior_given(x, k))


def pair(
    dim: int, components: int = 10, latent: int | None = None, floor: float = 1e-3
) -> tuple[MixturePPCA, JointPosterior]:
    """Build the model and its guide.

    Args:
        dim: D, the size of one point x.
        components: K, the number of components.
        latent: Directions in each component: 4, or D − 1 if that is less.
        floor: The smallest σ_k², as a fraction of the smallest variance of a column.
    """
    model = MixturePPCA(dim, components, min(4, dim - 1) if latent is None else latent, floor)
    return model, JointPosterior(model)
