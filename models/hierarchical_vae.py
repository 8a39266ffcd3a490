"""Hierarchical VAE: z_L ~ N(0, I), z_l|z_{l+1} ~ N(μ_l, diag σ_l²), x|z_1 ~ p(x | decoder(z_1)); μ_l, σ_l networks of z_{l+1}.

With two layers and the bottom-up guide it is the 2-layer network of Burda, Grosse & Salakhutdinov 2016. No exact log p(x).
"""

import itertools

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pyrovae
from pyrovae.guides import positive

TRAINING_DEFAULTS = {"steps": 3600, "batch_size": 128, "lr": 2e-3}


class HierarchicalVAE(pyrovae.nn.DecoderModel):
    """Latents z1 (next to x) … zL (at the top), sites of these names, drawn from the top down."""

    handles_missing = True  # p(x|z) is of the observed entries, and the encoder sees 0 for the others

    def __init__(
        self,
        dim: int,
        latents: tuple[int, ...],
        hidden: tuple[int, ...],
        likelihood: pyrovae.likelihoods.Likelihood,
        image_shape: tuple[int, ...] | None = None,
    ):
        if len(latents) < 2 or min(latents) < 1:
            raise pyrovae.InvalidInputError(
                f"latents={latents} are not two layers or more: write their sizes from x upwards, such as 16,8."
            )
        decoder: nn.Module = pyrovae.MLP(latents[0], *reversed(hidden), likelihood.num_outputs(dim))
        if image_shape:
            decoder = pyrovae.nn.ConvDecoder.of(image_shape, latents[0], likelihood, dim)
        super().__init__(decoder, likelihood, dim)
        self.latents, self.image_shape = latents, image_shape
        # given[l] says z_{l+1} (counted from 1) given z_{l+2}
        self.given = nn.ModuleList(
            pyrovae.MLP(above, width, 2 * below)
            for (below, above), width in zip(itertools.pairwise(latents), widths(hidden, latents), strict=True)
        )

    def forward(self, x: Tensor) -> None:
        top = x.new_zeros(self.latents[-1])
        with pyro.plate("data", len(x)):
            z = pyro.sample(f"z{len(self.latents)}", dist.Normal(top, torch.ones_like(top)).to_event(1))
            for layer in range(len(self.latents) - 1, 0, -1):
                z = pyro.sample(f"z{layer}", normal(self.given[layer - 1](z)))
            pyro.sample("x", pyrovae.distributions.observed(self.decode(z), x), obs=x)


def encoder(model: HierarchicalVAE, dim: int, hidden: tuple[int, ...], outputs: int) -> nn.Module:
    """The network that sees x: convolutional where the model's decoder is."""
    if model.image_shape:
        return pyrovae.nn.ConvEncoder(model.image_shape, outputs)
    return pyrovae.nn.EncoderMLP(dim, *hidden, outputs)


class BottomUp(pyrovae.Module):
    """q(z_1|x) q(z_2|z_1) … q(z_L|z_{L−1}): each layer from a draw of the one below it (Burda et al. 2016, eq. 13)."""

    def __init__(self, model: HierarchicalVAE, dim: int, hidden: tuple[int, ...]):
        super().__init__()
        sizes = model.latents
        self.encoder = encoder(model, dim, hidden, 2 * sizes[0])
        self.above = nn.ModuleList(
            pyrovae.MLP(below, width, 2 * above)
            for (below, above), width in zip(itertools.pairwise(sizes), widths(hidden, sizes), strict=True)
        )

    def forward(self, x: Tensor) -> None:
        outputs = self.encoder(x)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z1", normal(outputs))
            for layer, network in enumerate(self.above, start=2):
                z = pyro.sample(f"z{layer}", normal(network(z)))


class Ladder(pyrovae.Module):
    """Ladder guide: q(z_L|x) q(z_{L−1}|z_L, x) … q(z_1|z_2, x), from the top down as the model draws.

    Features of x go up without noise. The q of each layer is the product of the model's p(z_l|z_{l+1}) and a Gaussian
    of those features (Sønderby et al. 2016, eq. 10–12).
    """

    def __init__(self, model: HierarchicalVAE, dim: int, hidden: tuple[int, ...]):
        super().__init__()
        self._model = (model,)  # not a part of the guide: its parameters keep the model's names
        sizes = model.latents
        features = [dim, *(hidden[-1:] or (dim,)), *widths(hidden, sizes)]
        self.up = nn.ModuleList(
            nn.Sequential(network, nn.Tanh())
            for network in (
                encoder(model, dim, hidden[:-1], features[1]),
                *(pyrovae.MLP(below, above) for below, above in itertools.pairwise(features[1:])),
            )
        )
        self.across = nn.ModuleList(
            pyrovae.MLP(width, 2 * size) for width, size in zip(features[1:], sizes, strict=True)
        )

    def forward(self, x: Tensor) -> None:
        seen, features = [], x
        for network, across in zip(self.up, self.across, strict=True):
            features = network(features)
            seen.append(across(features))
        with pyro.plate("data", len(x)):
            z = pyro.sample(f"z{len(seen)}", normal(seen[-1]))
            for layer in range(len(seen) - 1, 0, -1):
                prior = moments(self._model[0].given[layer - 1](z))
                z = pyro.sample(f"z{layer}", product(prior, moments(seen[layer - 1])))


GUIDES = (BottomUp, Ladder)


def moments(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """μ and σ of a network's outputs; σ is 1 at 0."""
    loc, rho = outputs.chunk(2, dim=-1)
    return loc, positive(rho)


def normal(outputs: Tensor) -> dist.TorchDistribution:
    """Return the Gaussian that a network's outputs stand for."""
    loc, scale = moments(outputs)
    return dist.Normal(loc, scale).to_event(1)


def product(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> dist.TorchDistribution:
    """N(μ, σ²) ∝ N(μ_1, σ_1²) N(μ_2, σ_2²): precisions add, means are weighted by them."""
    weights = [scale**-2 for _, scale in (first, second)]
    total = weights[0] + weights[1]
    loc = (first[0] * weights[0] + second[0] * weights[1]) / total
    return dist.Normal(loc, total.rsqrt()).to_event(1)


def widths(hidden: tuple[int, ...], latents: tuple[int, ...]) -> list[int]:
    """The units of the hidden layer between latents: half of x's own, as in the 2-layer network of the paper."""
    return [max(1, (hidden[-1] if hidden else 2 * below) // 2) for below in latents[:-1]]


def pair(
    dim: int,
    latents: tuple[int, ...] = (16, 8),
    hidden: tuple[int, ...] = (200, 200),
    likelihood: pyrovae.likelihoods.Likelihood | None = None,
    guide: type = BottomUp,
    image_shape: tuple[int, ...] | None = None,
) -> tuple[HierarchicalVAE, nn.Module]:
    """Build the model and its guide.

    Args:
        dim: D, the size of one point x.
        latents: Sizes of the latents from x upwards, two or more.
        hidden: Widths between x and z1; half of the last between latents.
        guide: BottomUp or Ladder.
        likelihood: As for the vae.
        image_shape: As for the vae.
    """
    likelihood = likelihood or pyrovae.likelihoods.PixelNormal()
    model = HierarchicalVAE(dim, latents, hidden, likelihood, image_shape)
    return model, guide(model, dim, hidden)
