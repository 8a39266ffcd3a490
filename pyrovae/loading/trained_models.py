"""Whole models of pythae and MultiVae: which networks they have, and which p(x|z) they were trained with."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..errors import InvalidInputError
from ..likelihoods import Bernoulli, BernoulliMean, FixedNormal
from ..likelihoods.base import Likelihood

# Those of pythae with z ~ N(0, I), q(z|x) from the encoder alone, and ½‖x − x̂‖² or cross-entropy as the loss.
PYTHAE = (
    "VAE",
    "BetaVAE",
    "BetaTCVAE",
    "DisentangledBetaVAE",
    "FactorVAE",
    "INFOVAE_MMD",
    "IWAE",
    "MIWAE",
    "CIWAE",
    "PIWAE",
)
FAMILIES: dict[str, Any] = {"normal": dist.Normal, "laplace": dist.Laplace}
SAME = 1e-5  # relative difference of two log-densities that are one


@dataclass(frozen=True)
class TrainedNetworks:
    """What `from_networks` takes."""

    encoder: nn.Module
    decoder: nn.Module
    latent: int
    likelihood: Likelihood
    shape: tuple[int, ...] | None


def trained_networks(model: Any) -> TrainedNetworks:
    """The networks of a model of pythae or MultiVae. Raises `InvalidInputError` where they are no such pair."""
    library, kind = type(model).__module__.split(".")[0], type(model).__name__
    if library == "pythae":
        return _of_pythae(model, kind)
    if all(hasattr(model, name) for name in ("joint_encoder", "decoders", "recon_log_probs")):
        return _of_multivae(model)
    if library == "multivae":
        raise InvalidInputError(
            f"{kind} of MultiVae has no joint encoder that gives one Gaussian q(z|x): JMVAE, JNF and TELBO have. Of others, pass "
            "a module that returns μ and log σ², and the decoder, to from_networks(encoder, decoder, latent, likelihood)."
        )
    raise InvalidInputError(
        f"{kind} is no model of pythae or MultiVae: give from_networks(encoder, decoder, latent, likelihood) all four."
    )


def _of_pythae(model: Any, kind: str) -> TrainedNetworks:
    if kind not in PYTHAE:
        raise InvalidInputError(
            f"{kind} of pythae has another prior, posterior or loss than these: {', '.join(PYTHAE)}. Write it as a pair of your own."
        )
    loss = model.model_config.reconstruction_loss
    likelihoods: dict[str, Likelihood] = {"mse": FixedNormal(1.0), "bce": BernoulliMean()}
    if loss not in likelihoods:
        raise InvalidInputError(
            f"The loss {loss!r} of this {kind} is no log p(x|z): pass vae.encoder, vae.decoder, vae.latent_dim and a likelihood."
        )
    return TrainedNetworks(model.encoder, model.decoder, model.latent_dim, likelihoods[loss], tuple(model.input_dim))


def _of_multivae(model: Any) -> TrainedNetworks:
    """x has the columns of all modalities, one after another in the order of `decoders`."""
    shapes = {name: tuple(model.input_dims[name]) for name in model.decoders} if model.input_dims else {}
    if not shapes:
        raise InvalidInputError("The model does not say the shapes of its modalities: give its config input_dims.")
    chosen = model.model_config.decoders_dist or dict.fromkeys(shapes, "normal")
    families = {name: chosen[name] for name in shapes}
    kinds = set(map(str, families.values()))
    if len(kinds) > 1 or kinds - {*FAMILIES, "bernoulli"}:
        told = ", ".join(f"{name} {family}" for name, family in families.items())
        raise InvalidInputError(
            f"The modalities have p(x|z) of the kinds {told}: a pair takes all normal, all laplace or all bernoulli."
        )
    likelihood = _likelihood(model.recon_log_probs, shapes, kinds.pop())
    return TrainedNetworks(
        _JointEncoder(model.joint_encoder, shapes), _JointDecoder(model.decoders), model.latent_dim, likelihood, None
    )


def _likelihood(log_probs: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], kind: str) -> Likelihood:
    """p(x|z) with the scales that the model's own log-densities have."""
    at, mean = torch.tensor([0.7]), torch.tensor([0.2])
    if kind == "bernoulli":
        likelihood: Likelihood = Bernoulli()
    else:
        peaks = {name: float(log_probs[name](mean, mean)) for name in shapes}  # −log σ − ½ log 2π, or −log 2b
        constant = 0.5 * math.log(2 * math.pi) if kind == "normal" else math.log(2.0)
        scales = [torch.full((math.prod(shape),), math.exp(-peaks[name] - constant)) for name, shape in shapes.items()]
        likelihood = ColumnScales(FAMILIES[kind], torch.cat(scales))
    place = 0
    for name, shape in shapes.items():
        value = 1.0 if kind == "bernoulli" else float(at)
        eta = mean.expand(sum(map(math.prod, shapes.values())))
        x = torch.full_like(eta, value)
        own = float(likelihood(eta).base_dist.log_prob(x)[place])
        theirs = float(log_probs[name](mean, torch.tensor([value])))
        if abs(own - theirs) > SAME * (1 + abs(theirs)):
            raise InvalidInputError(
                f"p(x|z) of the modality {name} is no plain {kind}: pass the networks and a likelihood of your own to from_networks."
            )
        place += math.prod(shape)
    return likelihood


class ColumnScales(Likelihood):
    """Real numbers, each column with a known scale of its own: x_d ~ family(η_d, s_d)."""

    scales: Tensor

    def __init__(self, family: Any, scales: Tensor):
        super().__init__()
        self.family = family
        self.register_buffer("scales", scales)

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        density: dist.TorchDistribution = self.family(eta, self.scales.to(eta)).to_event(1)
        return density

    def initial_outputs(self, mean: Tensor, variance: Tensor) -> Tensor:
        return mean


class _JointEncoder(nn.Module):
    """Rows of all columns to μ and log σ², by the joint encoder of the modalities."""

    def __init__(self, network: nn.Module, shapes: Mapping[str, tuple[int, ...]]):
        super().__init__()
        self.network, self.shapes = network, dict(shapes)

    def forward(self, x: Tensor) -> Any:
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        if x.shape[-1] != sum(sizes):
            columns = " + ".join(f"{size} of {name}" for name, size in zip(self.shapes, sizes, strict=True))
            raise InvalidInputError(
                f"x has {x.shape[-1]} columns, and the modalities have {columns}: join them with torch.cat in this order."
            )
        parts = zip(self.shapes.items(), x.split(sizes, dim=-1), strict=True)
        return self.network({name: part.reshape(-1, *shape) for (name, shape), part in parts})


class _JointDecoder(nn.Module):
    """z to the outputs of all modalities' decoders, side by side."""

    def __init__(self, decoders: Mapping[str, nn.Module]):
        super().__init__()
        self.decoders = nn.ModuleDict(decoders)

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([decoder(z).reconstruction.flatten(1) for decoder in self.decoders.values()], dim=-1)
