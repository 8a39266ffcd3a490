"""Vector-quantised VAE: z ~ Π_m p(z_m|z_1 … z_{m−1}), M codes of K, x|z ~ p(x | decoder(e_{z_1}, …, e_{z_M})), e a codebook.

The guide puts all its mass on the codes nearest to the encoder's vectors (van den Oord, Vinyals & Kavukcuoglu 2017).
So log p(x) ≥ log p(x|z) + log p(z). The prior of the codes is learned too. The bound has no noise, because all draws
are equal. That says nothing of how tight it is. `Soft`, a guide that draws, tightens it.
"""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pyrovae
from pyrovae.objectives import Terms

TRAINING_DEFAULTS = {"steps": 1800, "batch_size": 128, "lr": 2e-3}
EMPTY = torch.Size()


class CodePrior(pyrovae.Module):
    """p(z_m = k|z_<m) = softmax_k(U_m tanh(a + Σ_{j<m} V_j[z_j]) + b_m): NADE (Larochelle & Murray 2011), for K values in place of 2."""

    def __init__(self, positions: int, codes: int, hidden: int):
        super().__init__()
        if positions < 1 or codes < 2:
            raise pyrovae.InvalidInputError(
                f"positions={positions}, codes={codes}: give 1 position or more, with 2 codes or more."
            )
        self.positions, self.codes = positions, codes
        self.a = nn.Parameter(torch.zeros(hidden))
        self.V = nn.Parameter(torch.randn(positions, codes, hidden) / math.sqrt(positions))
        self.U = nn.Parameter(torch.zeros(positions, hidden, codes))
        self.b = nn.Parameter(torch.zeros(positions, codes))

    def forward(self) -> "Codes":
        return Codes(self.a, self.V, self.U, self.b)


class Codes(dist.TorchDistribution):
    """The prior's distribution over z, (M,) whole numbers below K."""

    arg_constraints: dict = {}  # noqa: RUF012 (torch's own protocol)

    def __init__(self, a: Tensor, V: Tensor, U: Tensor, b: Tensor, batch_shape: torch.Size = EMPTY):
        self.parts = a, V, U, b
        super().__init__(batch_shape, torch.Size([len(b)]), validate_args=False)

    @property
    def support(self) -> dist.constraints.Constraint:
        return dist.constraints.independent(dist.constraints.integer_interval(0, self.parts[3].shape[-1] - 1), 1)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> "Codes":
        return Codes(*self.parts, batch_shape=torch.Size(batch_shape))

    def logits(self, z: Tensor) -> Tensor:
        """log p(z_m = k|z_<m): (*batch, M) → (*batch, M, K)."""
        a, V, U, b = self.parts
        each = V[torch.arange(len(b), device=z.device), z]  # (*batch, M, hidden)
        before = a + each.cumsum(-2) - each
        return (torch.einsum("...mh,mhk->...mk", before.tanh(), U) + b).log_softmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        log_p = self.logits(value).gather(-1, value.unsqueeze(-1)).squeeze(-1).sum(-1)
        return log_p.expand(torch.broadcast_shapes(self.batch_shape, log_p.shape))

    def sample(self, sample_shape: torch.Size = EMPTY) -> Tensor:
        with torch.no_grad():
            shape = torch.Size(sample_shape) + self.batch_shape + self.event_shape
            z = torch.zeros(shape, dtype=torch.long, device=self.parts[0].device)
            for m in range(shape[-1]):  # z_m asks only for what is before it
                z[..., m] = dist.Categorical(logits=self.logits(z)[..., m, :]).sample()
        return z


class VQVAE(pyrovae.nn.DecoderModel):
    """z ~ prior, x|z ~ likelihood(decoder(e_z) + offset)."""

    def __init__(
        self, decoder: nn.Module, prior: CodePrior, size: int, dim: int, likelihood: pyrovae.likelihoods.Likelihood
    ):
        super().__init__(decoder, likelihood, dim)
        self.prior = prior
        self.codebook = nn.Parameter(torch.randn(prior.codes, size))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.decode(self.codebook[z]), obs=x)

    def decode(self, e: Tensor) -> dist.TorchDistribution:
        """p(x|e): (*batch, M, size) → a distribution with batch_shape `batch`."""
        return super().decode(e.flatten(-2))


class Soft(pyrovae.Module):
    """q(z_m = k|x) ∝ exp(−‖e_m(x) − e_k‖²/τ), each m by itself, τ learned."""

    def __init__(self, model: VQVAE, encoder: nn.Module, temperature: float = 1.0):
        """`encoder` is any module from (N, dim) to (N, M · size)."""
        super().__init__()
        self._model = (model,)  # not a part of the guide: its parameters keep the model's names
        self.encoder = encoder
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.posterior(x))

    def encode(self, x: Tensor) -> Tensor:
        """e(x): (N, dim) → (N, M, size)."""
        return self.encoder(x).unflatten(-1, (self._model[0].prior.positions, -1))

    def distances(self, e: Tensor) -> Tensor:
        """‖e_m − e_k‖²: (N, M, size) → (N, M, K)."""
        return (e.unsqueeze(-2) - self._model[0].codebook).square().sum(-1)

    def posterior(self, x: Tensor) -> dist.TorchDistribution:
        logits = -self.distances(self.encode(x)) / self.log_temperature.exp()
        return dist.Categorical(logits=logits).to_event(1)


class Nearest(Soft):
    """q(z|x) = 1 at the nearest codes, the limit τ → 0: log q = 0."""

    def __init__(self, model: VQVAE, encoder: nn.Module):
        super().__init__(model, encoder)
        del self.log_temperature

    def codes(self, e: Tensor) -> Tensor:
        """argmin_k ‖e_m − e_k‖: (N, M, size) → (N, M)."""
        return self.distances(e).argmin(-1)

    def posterior(self, x: Tensor) -> dist.TorchDistribution:
        nearest = nn.functional.one_hot(self.codes(self.encode(x)), self._model[0].prior.codes)
        return dist.Categorical(logits=nearest.to(x).log()).to_event(1)

    def objective(self) -> "StraightThrough":
        return StraightThrough()


class StraightThrough:
    """−[log p(x|z) + log p(z)] at the nearest codes z, with a gradient where argmin has none.

    The gradient of the decoder goes to e(x) as if it were e_z. ‖sg e(x) − e_z‖² moves the codebook, β‖e(x) − sg e_z‖²
    the encoder. Only the gradients of the two squares are added, so the loss stays −ELBO, in nats (van den Oord et
    al. 2017, eq. 3).
    """

    def __init__(self, beta: float = 0.25):
        self.beta = beta

    def terms(self, model: VQVAE, guide: Nearest, x: Tensor) -> Terms:
        e = guide.encode(x)
        z = guide.codes(e)
        e_z = model.codebook[z]
        seen = model.decode(e + (e_z - e).detach()).log_prob(x).sum()
        pull = (e_z - e.detach()).square().sum() + self.beta * (e - e_z.detach()).square().sum()
        return Terms(pull - pull.detach() - seen - model.prior().log_prob(z).sum(), seen)


GUIDES = (Nearest, Soft)


def pair(
    dim: int,
    positions: int = 4,
    codes: int = 64,
    size: int = 8,
    hidden: tuple[int, ...] = (100, 100),
    likelihood: pyrovae.likelihoods.Likelihood | None = None,
    guide: type = Nearest,
) -> tuple[VQVAE, Soft]:
    """Build the model and its guide.

    Args:
        dim: D, the size of one point x.
        positions: M, the number of codes of one point.
        codes: K, the size of the codebook.
        size: The numbers in each code vector.
        hidden: As for the vae.
        guide: Nearest or Soft.
        likelihood: As for the vae.
    """
    likelihood = likelihood or pyrovae.likelihoods.PixelNormal()
    decoder = pyrovae.MLP(positions * size, *reversed(hidden), likelihood.num_outputs(dim))
    model = VQVAE(decoder, CodePrior(positions, codes, 64), size, dim, likelihood)
    return model, guide(model, pyrovae.nn.EncoderMLP(dim, *hidden, positions * size))
