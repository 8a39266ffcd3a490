"""Networks trained elsewhere as a pair: any encoder and any decoder that are plain modules come in as they are."""

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..distributions import observed
from ..errors import InvalidInputError
from ..guides import Amortised, MeanField
from ..likelihoods.base import Likelihood
from ..likelihoods.bernoulli import BernoulliMean
from ..nn import Module, over_batch
from ..pair.execution import evaluation_mode
from .options import signature_of
from .registry import classes_of
from .trained_models import trained_networks


class LogVariance(MeanField):
    """Guide q(z|x) = N(μ(x), diag σ²(x)) of an encoder that returns μ and log σ².

    References:
        Kingma & Welling (2014). Auto-encoding variational Bayes. Appendix C.
    """

    @staticmethod
    def scale(log_variance: Tensor) -> Tensor:
        return (0.5 * log_variance).exp()


class NetworkVAE(Module):
    """The model z ~ N(0, I), x|z ~ likelihood(decoder(z)).

    Only the decoder and the likelihood have parameters.
    """

    handles_missing = True  # p(x|z) is of the observed entries, and the encoder sees 0 for the others

    def __init__(self, decoder: nn.Module, latent: int, likelihood: Likelihood):
        super().__init__()
        self.decoder, self.latent, self.likelihood = decoder, latent, likelihood

    def forward(self, x: Tensor) -> None:
        _check_images(x)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent), x.new_ones(self.latent)).to_event(1))
            pyro.sample("x", observed(self.decode(z), x), obs=x)

    def decode(self, z: Tensor) -> dist.TorchDistribution:
        """Return p(x|z), with batch_shape `batch`, for z (*batch, k)."""
        return self.likelihood(over_batch(self.decoder, z))


def from_networks(
    encoder: nn.Module,
    decoder: nn.Module | None = None,
    latent: int | None = None,
    likelihood: Likelihood | None = None,
    *,
    shape: Sequence[int] | None = None,
    family: type[Amortised] = LogVariance,
) -> tuple[NetworkVAE, Amortised]:
    """Make a pair from an encoder and a decoder, or a whole model, that were trained elsewhere.

    The model is z ~ N(0, I), x|z ~ likelihood(decoder(z)), and the guide q(z|x) is read from the encoder. The modules
    themselves are in the pair, not copies, so training the pair trains them. Estimates put them in evaluation mode:
    dropout is off, and batch statistics do not change. The pair is one like any other for `evaluate`, `gap`,
    `diagnose` and `fit`.

    The likelihood depends on the loss of the decoder's training. It is `FixedNormal(1.0)` for ½‖x − x̂‖²,
    `FixedNormal(0.5 ** 0.5)` for ‖x − x̂‖², and a Bernoulli for cross-entropy: `Bernoulli()` reads logits,
    `BernoulliMean()` probabilities.

    Args:
        encoder: A module from x to μ and log σ² of z. It returns two tensors (N, latent), one tensor (N, 2·latent),
            or an object with `.embedding` and `.log_covariance`. Or, alone, a model of pythae, or one of MultiVae with
            a joint encoder (JMVAE, JNF, TELBO). The rest is then read from it. x has the columns of all modalities.
        decoder: A module from z (B, latent) to what the likelihood reads, in any shape, or an object with
            `.reconstruction`.
        latent: The size of z.
        likelihood: p(x|z).
        shape: The shape in which the encoder takes one point, such as (1, 28, 28). x itself has rows (N, D), such as
            `images.flatten(1)`.
        family: The guide family for an encoder that returns something else, such as `MeanField` or `FullCovariance`.

    Returns:
        The model and the guide.

    Raises:
        InvalidInputError: `BernoulliMean` reads outputs that are no probabilities. When the pair runs: the encoder or
            the decoder returns something else than is said above, or x has no rows.

    References:
        Chadebec, Vincent & Allassonnière (2022). Pythae: unifying generative autoencoders in Python.
        Senellart, Chadebec & Allassonnière (2023). MultiVae: a Python library for multimodal generative autoencoders.

    Example:
        >>> import pyrovae, torch
        >>> encoder, decoder = torch.nn.Linear(4, 2 * 2), torch.nn.Linear(2, 4)
        >>> model, guide = pyrovae.from_networks(encoder, decoder, 2, pyrovae.likelihoods.FixedNormal(1.0))
        >>> pyrovae.log_weights(model, guide, torch.randn(5, 4)).shape
        torch.Size([1, 5])

        A model that pythae trained:

        >>> pyrovae.from_networks(pythae.models.AutoModel.load_from_folder("final_model"))  # doctest: +SKIP
    """
    if decoder is None and latent is None and likelihood is None:
        found = trained_networks(encoder)
        encoder, decoder, latent, likelihood = found.encoder, found.decoder, found.latent, found.likelihood
        shape = found.shape if shape is None else shape
    if decoder is None or latent is None:
        raise InvalidInputError(
            "Give encoder, decoder, latent and likelihood, or one whole model of pythae or MultiVae and nothing else."
        )
    _check_names(likelihood)
    assert likelihood is not None  # as the check has seen
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
        self.handles_missing = getattr(network, "handles_missing", False)

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
    """The model draws rows, so it must be given rows: its draws are then like the data."""
    if x.dim() != 2:
        raise InvalidInputError(
            f"x of shape {tuple(x.shape)} is not a row for each point: give x.flatten(1), and, where the encoder takes images, "
            f"from_networks(…, shape={tuple(x.shape[1:])})."
        )


def _described(value: Any) -> str:
    many = f" of {len(value)}" if isinstance(value, list | tuple | dict) else ""
    return f"a {type(value).__name__}{many}"
