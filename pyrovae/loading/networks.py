"""Networks trained elsewhere as a pair: any encoder and any decoder that are plain modules come in as they are."""

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..errors import InvalidInputError
from ..guides import Amortised, MeanField
from ..likelihoods.base import Likelihood
from ..likelihoods.bernoulli import BernoulliMean
from ..nn import Module, over_batch
from ..pair.execution import evaluation_mode
from .options import signature_of
from .registry import classes_of


class LogVariance(MeanField):
    """q(z|x) = N(μ(x), diag σ²(x)) of an encoder that returns μ and log σ², as most do (Kingma & Welling 2014, appendix C)."""

    @staticmethod
    def scale(log_variance: Tensor) -> Tensor:
        return (0.5 * log_variance).exp()


class NetworkVAE(Module):
    """z ~ N(0, I), x|z ~ likelihood(decoder(z)): nothing beside the decoder has parameters, but for the likelihood's."""

    def __init__(self, decoder: nn.Module, latent: int, likelihood: Likelihood):
        super().__init__()
        self.decoder, self.latent, self.likelihood = decoder, latent, likelihood

    def forward(self, x: Tensor) -> None:
        _check_images(x)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent), x.new_ones(self.latent)).to_event(1))
            pyro.sample("x", self.decode(z), obs=x)

    def decode(self, z: Tensor) -> dist.TorchDistribution:
        """p(x|z): (*batch, k) → a distribution with batch_shape `batch`."""
        return self.likelihood(over_batch(self.decoder, z))


def from_networks(
    encoder: nn.Module,
    decoder: nn.Module,
    latent: int,
    likelihood: Likelihood,
    *,
    shape: Sequence[int] | None = None,
    family: type[Amortised] = LogVariance,
) -> tuple[NetworkVAE, Amortised]:
    """The pair z ~ N(0, I), x|z ~ likelihood(decoder(z)), z|x ~ q of the encoder, of networks that know nothing of pyrovae.

    The pair is of rows x (N, D), for images `images.flatten(1)`. `encoder` takes them as they are, or as (N, *shape) where a
    shape such as (1, 28, 28) is given, and returns μ and log σ² of z: two tensors of (N, latent), one of (N, 2·latent), or an
    object with `.embedding` and `.log_covariance`. `decoder` takes z (B, latent) and returns what the likelihood reads, in any
    shape, or an object with `.reconstruction`: logits for `Bernoulli()`, probabilities (it ends in a sigmoid) for
    `BernoulliMean()`, the mean for `FixedNormal(σ)`. What a squared error was minimised with is the likelihood
    FixedNormal(1.0) where the loss was ½‖x − x̂‖², and FixedNormal(0.5 ** 0.5) where it was ‖x − x̂‖².

    An encoder that says something else of q is read by another `family`: `MeanField`, `FullCovariance`, or a file of one's own.

    The modules themselves are in the pair, not copies: training the pair goes on training them. For evidence they are put in
    evaluation mode, so dropout is off and batch statistics stand still. A pair as any other: `evaluate`, `gap`, `diagnose`, `fit`.
    Raises `InvalidInputError` for a decoder whose outputs are no probabilities where `BernoulliMean` reads them, and, when the pair is run,
    for outputs that are none of these and for x that are not rows.

    A pythae `VAE` with reconstruction_loss "mse" is
    `from_networks(vae.encoder, vae.decoder, vae.latent_dim, FixedNormal(1.0), shape=vae.input_dim)`; with "bce", `BernoulliMean()`.
    """
    _check_names(likelihood)
    model = NetworkVAE(_Decoder(decoder), latent, likelihood)
    if isinstance(likelihood, BernoulliMean):
        _check_logits(model, likelihood)
    return model, family(1, latent, (), encoder=_Encoder(encoder, latent, shape))


def _check_names(likelihood: Any) -> None:
    """A text or a class, where the object belongs."""
    if not isinstance(likelihood, str | type) and callable(likelihood):
        return
    called = getattr(likelihood, "__name__", str(likelihood))
    known = {name.lower(): name for name in classes_of("likelihood")}
    name = known.get(called.lower(), "Bernoulli")
    raise InvalidInputError(
        f"likelihood={likelihood!r:.60} is no likelihood: pass an object, {'' if called.lower() in known else 'such as '}pyrovae.likelihoods.{name}"
        f"{signature_of(classes_of('likelihood')[name])}."
    )


def _check_logits(model: NetworkVAE, likelihood: BernoulliMean) -> None:
    """Better here, at 64 draws of the prior, than as a density that is no number."""
    like = next(model.parameters(), torch.zeros(()))
    z = torch.randn(64, model.latent, generator=torch.Generator().manual_seed(0)).to(like)
    with evaluation_mode(model), torch.no_grad():
        likelihood.check_logits(model.decoder(z))


class _Encoder(nn.Module):
    """Whatever the network returns, as (N, outputs)."""

    def __init__(self, network: nn.Module, latent: int, shape: Sequence[int] | None):
        super().__init__()
        self.network, self.latent, self.shape = network, latent, None if shape is None else tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        _check_images(x)
        outputs = self.network(x if self.shape is None else x.reshape(-1, *self.shape))
        if hasattr(outputs, "embedding") and hasattr(outputs, "log_covariance"):
            outputs = outputs.embedding, outputs.log_covariance
        parts = [outputs] if isinstance(outputs, Tensor) else outputs
        if not (isinstance(parts, list | tuple) and 0 < len(parts) <= 2 and all(isinstance(p, Tensor) for p in parts)):
            raise InvalidInputError(
                f"The encoder returns {_described(outputs)}: let it return μ and log σ², two tensors or one of both, for example in a "
                "module that calls it."
            )
        if len(parts) == 2 and not (_rows(parts[0], len(x)) == self.latent and _rows(parts[1], len(x))):
            shapes = " and ".join(str(tuple(part.shape)) for part in parts)
            raise InvalidInputError(f"The encoder returns {shapes}: μ and log σ² are of {(len(x), self.latent)} each.")
        return torch.cat([part.reshape(len(part), -1) for part in parts], dim=-1)


class _Decoder(nn.Module):
    """Whatever the network returns, as (B, outputs)."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, z: Tensor) -> Tensor:
        output = self.network(z)
        output = getattr(output, "reconstruction", output)
        if not isinstance(output, Tensor):
            raise InvalidInputError(
                f"The decoder returns {_described(output)}: let it return one tensor, what the likelihood reads."
            )
        return output.flatten(1)


def _rows(part: Tensor, points: int) -> int:
    """How many numbers there are for each point; 0 where the points are others."""
    return part.numel() // points if part.dim() > 0 and len(part) == points else 0


def _check_images(x: Tensor) -> None:
    """The model draws rows, so rows are what it is given: for its draws, and a guide that learns of them, to be like the data."""
    if x.dim() != 2:
        raise InvalidInputError(
            f"x of shape {tuple(x.shape)} is not a row for each point: give x.flatten(1), and, where the encoder takes images, "
            f"from_networks(…, shape={tuple(x.shape[1:])})."
        )


def _described(value: Any) -> str:
    many = f" of {len(value)}" if isinstance(value, list | tuple | dict) else ""
    return f"a {type(value).__name__}{many}"
