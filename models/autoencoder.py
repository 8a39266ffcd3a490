"""Autoencoder: z = g(x), x̂ = f(z), at the least E‖x − x̂‖²: no density.

It is deterministic where a VAE has distributions. The guide is a point, there is no p(z), and the loss is no −log
p(x|z). So it has no place in a table of likelihoods, and the model says so. With linear f and g it spans the
principal subspace (Baldi & Hornik 1989).
"""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import pyrovae

TRAINING_DEFAULTS = {"steps": 3600, "batch_size": 128, "lr": 2e-3}


class Reconstruction(dist.TorchDistribution):
    """x̂ from a decoder's outputs, and in the place of log p(x|z) minus a loss."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own protocol)
    support = dist.constraints.real_vector

    def __init__(self, outputs: Tensor):
        self.outputs = outputs
        super().__init__(outputs.shape[:-1], outputs.shape[-1:], validate_args=False)

    @staticmethod
    def start(mean: Tensor) -> Tensor:
        """The outputs whose x̂ is the data's mean."""
        return mean

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Reconstruction":
        return type(self)(self.outputs.expand(*batch_shape, *self.event_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.mean.detach().expand(torch.Size(sample_shape) + self.batch_shape + self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return -self.loss(value)

    def loss(self, x: Tensor) -> Tensor:
        """(*batch, dim) → (*batch,)."""
        raise NotImplementedError


class SquaredError(Reconstruction):
    """‖x − x̂‖²."""

    @property
    def mean(self) -> Tensor:
        return self.outputs

    def loss(self, x: Tensor) -> Tensor:
        return (x - self.outputs).square().sum(-1)


class CrossEntropy(Reconstruction):
    """−Σ_d [x_d log x̂_d + (1 − x_d) log(1 − x̂_d)], x̂ = sigmoid(outputs), for x in [0, 1]."""

    support = dist.constraints.independent(dist.constraints.unit_interval, 1)

    @staticmethod
    def start(mean: Tensor) -> Tensor:
        return torch.logit(mean.clamp(0.01, 0.99))

    @property
    def mean(self) -> Tensor:
        return self.outputs.sigmoid()

    def loss(self, x: Tensor) -> Tensor:
        target = x.expand(torch.broadcast_shapes(x.shape, self.outputs.shape))
        return binary_cross_entropy_with_logits(self.outputs.expand_as(target), target, reduction="none").sum(-1)


class NoPrior(dist.ImproperUniform):
    """No distribution of z at all: it costs nothing, and nothing can be drawn from it."""

    def sample(self, sample_shape: Any = ()) -> Tensor:
        raise pyrovae.InvalidInputError(
            "An autoencoder has no p(z) to draw from: take pca or vae for new x, or decode codes of your own with model.decode(z)."
        )


class Autoencoder(pyrovae.Module):
    """x̂ = f(z): the decoder, and the loss."""

    no_density = (
        "An autoencoder has no log p(x): its code is a point without a distribution, and its loss is no likelihood; look at its "
        "reconstruction error, or train ppca (if it is linear) or vae, which have one."
    )
    initialised: Tensor

    def __init__(self, decoder: nn.Module, latent: int, dim: int, loss: type[Reconstruction]):
        """`decoder` is any module from (B, latent) to (B, dim)."""
        super().__init__()
        self.decoder, self.latent, self.loss = decoder, latent, loss
        self.offset = nn.Parameter(torch.zeros(dim))
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", NoPrior(dist.constraints.real_vector, torch.Size(), torch.Size([self.latent])))
            pyro.sample("x", self.reconstruction(z), obs=x)

    def reconstruction(self, z: Tensor) -> Reconstruction:
        return self.loss(pyrovae.over_batch(self.decoder, z) + self.offset)

    def decode(self, z: Tensor) -> Tensor:
        """x̂ = f(z): (*batch, latent) → (*batch, dim)."""
        return self.reconstruction(z).mean

    def initialise(self, x: Tensor) -> None:
        """Begin at the data's mean."""
        with torch.no_grad():
            self.offset.copy_(self.loss.start(x.mean(dim=0)))
            self.initialised.fill_(True)


class Encoder(pyrovae.Module):
    """z = g(x)."""

    def __init__(self, encoder: nn.Module):
        """`encoder` is any module from (N, dim) to (N, latent)."""
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Delta(self.encode(x), event_dim=1))

    def encode(self, x: Tensor) -> Tensor:
        """z = g(x): (N, dim) → (N, latent)."""
        return self.encoder(x)


def pair(
    dim: int, latent: int = 16, hidden: tuple[int, ...] = (200, 200), loss: type = SquaredError
) -> tuple[Autoencoder, Encoder]:
    """Networks of `hidden` tanh layers; `hidden=()` makes both linear. `loss` is SquaredError, or CrossEntropy for x in [0, 1]."""
    decoder = pyrovae.MLP(latent, *reversed(hidden), dim)
    return Autoencoder(decoder, latent, dim, loss), Encoder(pyrovae.MLP(dim, *hidden, latent))
