"""Diffusion: z_T ~ N(0, I), z_{t−1}|z_t ~ N(μ_t(z_t), diag σ_t(z_t)²), x|z_1 ~ p(x | decoder(z_1)); one network for all t.

It is a hierarchical VAE with T layers of the size of x. The guide adds noise and has nothing to learn (Sohl-Dickstein
et al. 2015; Ho, Jain & Abbeel 2020; Kingma et al. 2021, VDM). Its ELBO, with all T terms, is estimated like any
other. log p(x) is not: a few draws carry the weights over T layers, and k̂ is high. So log p̂ is a lower bound. It is
tighter than the ELBO, and loose by an unknown amount.
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

import pyrovae
from pyrovae.guides import positive
from pyrovae.objectives import Terms

TIME = 16  # numbers that tell the network which t it is
TRAINING_DEFAULTS = {"steps": 8400, "batch_size": 128, "lr": 2e-3}


class Diffusion(pyrovae.Module):
    """Latents z1 (next to x) … zT (noise), sites of these names, drawn from the top down.

    Noise is added to c = (x − m)/s, of mean 0 and variance 1: z_t = α_t c + σ_t ε with α_t² + σ_t² = 1. The signal-to-noise ratio
    log(α_t²/σ_t²) falls evenly in t from `first` to `last`. A network says mean and variance of c given z_t. It begins at
    α_t z_t and σ_t², those of c ~ N(0, I): before it has learned anything the layers' joint density is a Gaussian's.
    """

    initialised: Tensor
    mean: Tensor
    scale: Tensor
    log_snr: Tensor
    output_centre: Tensor
    output_scale: Tensor

    def __init__(
        self,
        dim: int,
        steps: int,
        width: int,
        likelihood: pyrovae.likelihoods.Likelihood,
        ends: tuple[float, float],
        learn_variance: bool,
    ):
        super().__init__()
        first, last = ends
        if steps < 2 or not first > last:
            raise pyrovae.InvalidInputError(
                f"steps={steps}, ends={ends}: noise is added in 2 steps or more, and log SNR falls."
            )
        self.dim, self.steps, self.likelihood, self.learn_variance = dim, steps, likelihood, learn_variance
        self.network = pyrovae.nn.Residual(dim + TIME, 2 * dim, width)
        self.time = nn.Parameter(torch.randn(steps, TIME))
        self.decoder = pyrovae.nn.Residual(dim, likelihood.num_outputs(dim), width)
        self.offset = nn.Parameter(torch.zeros(likelihood.num_outputs(dim)))
        for last_layer in (self.network.last, self.decoder.last):
            nn.init.zeros_(last_layer.weight)
            nn.init.zeros_(last_layer.bias)
        self.register_buffer("log_snr", torch.linspace(first, last, steps))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("output_centre", torch.zeros(dim))
        self.register_buffer("output_scale", torch.ones(dim))
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x: Tensor) -> None:
        noise = x.new_zeros(self.dim)
        with pyro.plate("data", len(x)):
            z = pyro.sample(f"z{self.steps}", dist.Normal(noise, torch.ones_like(noise)).to_event(1))
            for t in range(self.steps, 1, -1):
                z = pyro.sample(f"z{t - 1}", self.reverse(z, t))
            pyro.sample("x", self.decode(z), obs=x)

    def decode(self, z: Tensor) -> dist.TorchDistribution:
        """p(x|z1): (*batch, dim) → a distribution with batch_shape `batch`."""
        density = self.likelihood(pyrovae.over_batch(self.decoder, z) + self.offset)
        return self.likelihood.in_units(density, self.output_centre, self.output_scale)

    def clean(self, x: Tensor) -> Tensor:
        """c = (x − m)/s, what noise is added to."""
        return (x - self.mean) / self.scale

    def signal(self, t: int | Tensor) -> tuple[Tensor, Tensor]:
        """α_t and σ_t, (1,) or, of t (N,), (N, 1): α² = SNR/(1 + SNR)."""
        log_snr = self.log_snr[t - 1].unsqueeze(-1)
        return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()

    def noised(self, c: Tensor, t: int | Tensor) -> dist.TorchDistribution:
        """q(z_t|x) = N(α_t c, σ_t² I)."""
        alpha, sigma = self.signal(t)
        return dist.Normal(alpha * c, sigma.expand_as(c)).to_event(1)

    def step(self, z: Tensor, t: int | Tensor, c: Tensor, variance: Tensor | float = 0.0) -> dist.TorchDistribution:
        """Return q(z_{t−1}|z_t, x), averaged over a c with a mean and a variance.

        N(r (α_{t−1}/α_t) z_t + (1 − r) α_{t−1} c, (1 − r) σ_{t−1}² I), r = SNR_t/SNR_{t−1} (VDM, appendix A).
        """
        (alpha, _), (above, sigma) = self.signal(t), self.signal(t - 1)
        lost = -torch.expm1(self.log_snr[t - 1] - self.log_snr[t - 2]).unsqueeze(-1)  # 1 − r
        loc = (1 - lost) * above / alpha * z + lost * above * c
        return dist.Normal(loc, (lost * sigma**2 + (lost * above) ** 2 * variance).sqrt().expand_as(loc)).to_event(1)

    def denoise(self, z: Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of c given z_t: α_t z_t − σ_t v, and σ_t² to begin with (v: Salimans & Ho 2022, appendix D)."""
        alpha, sigma = self.signal(t)
        time = self.time[t - 1].expand(*z.shape[:-1], TIME)
        v, rho = pyrovae.over_batch(self.network, torch.cat([z, time], dim=-1)).chunk(2, dim=-1)
        return alpha * z - sigma * v, sigma**2 * positive(rho)

    def reverse(self, z: Tensor, t: int | Tensor) -> dist.TorchDistribution:
        """p(z_{t−1}|z_t): the guide's step, with the network's word for x."""
        mean, variance = self.denoise(z, t)
        return self.step(z, t, mean, variance if self.learn_variance else 0.0)

    def initialise(self, x: Tensor) -> None:
        """m and s are the data's moments, for good; the decoder begins there."""
        centre, scale = pyrovae.nn.column_units(x)
        with torch.no_grad():
            self.output_centre.copy_(centre)
            self.output_scale.copy_(scale)
            mean, sd = pyrovae.nn.column_moments(x)
            self.mean.copy_(mean)
            self.scale.copy_(sd)
            y = ((x - centre) / scale).to(x.dtype)
            mean, variance = y.mean(dim=0), y.var(dim=0, correction=0)
            self.offset.copy_(self.likelihood.initial_outputs(mean, variance))
            self.initialised.fill_(True)


class Noise(pyrovae.Module):
    """q(z_T|x) Π_t q(z_{t−1}|z_t, x): fixed, without parameters, and drawn in the model's order."""

    def __init__(self, model: Diffusion):
        super().__init__()
        self._model = (model,)  # not a part of the guide: its parameters keep the model's names

    def forward(self, x: Tensor) -> None:
        model = self._model[0]
        c = model.clean(x)
        with pyro.plate("data", len(x)):
            z = pyro.sample(f"z{model.steps}", model.noised(c, model.steps))
            for t in range(model.steps, 1, -1):
                z = pyro.sample(f"z{t - 1}", model.step(z, t, c))

    def objective(self) -> "OneStep":
        return OneStep()


class OneStep:
    """−ELBO with one t ≥ 2 for each point, times T − 1, in place of the sum over all t.

    It has the same mean, for two passes through networks (VDM, eq. 13). The t of a batch are spread evenly over 2 … T
    (VDM, appendix I.1).
    """

    def terms(self, model: Diffusion, guide: Noise, x: Tensor) -> Terms:
        c, steps = model.clean(x), model.steps
        rows, size = pyrovae.objectives.place_in_batch(x)
        place = (rows / size + torch.rand((), device=x.device)) % 1
        t = 2 + (place * (steps - 1)).long().clamp(max=steps - 2)
        z = model.noised(c, t).rsample()
        noise = dist.Normal(torch.zeros_like(c), 1.0).to_event(1)
        kl = kl_divergence(model.noised(c, steps), noise)
        kl = kl + (steps - 1) * kl_divergence(model.step(z, t, c), model.reverse(z, t))
        seen = model.decode(model.noised(c, 1).rsample()).log_prob(x).sum()
        return Terms(kl.sum() - seen, seen)


def pair(
    dim: int,
    steps: int = 10,
    width: int = 128,
    likelihood: pyrovae.likelihoods.Likelihood | None = None,
    ends: tuple[float, float] = (0.5, -5.0),
    learn_variance: bool = True,
) -> tuple[Diffusion, Noise]:
    """Build the model and its guide.

    Args:
        dim: D, the size of one point x.
        steps: T, the number of layers.
        width: Hidden units of the networks.
        likelihood: As for the vae.
        ends: log SNR falls from the first of these, at z1, to the second, at zT.
        learn_variance: False leaves out the variance of c given z_t, as VDM does. Then p(z_{t−1}|z_t) is that of q,
            at the x of the network.
    """
    model = Diffusion(dim, steps, width, likelihood or pyrovae.likelihoods.PixelNormal(), ends, learn_variance)
    return model, Noise(model)
