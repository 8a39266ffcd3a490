"""Whole models of pythae and MultiVae: their log-weights by hand, and beside their own estimates."""

import math
import types
from typing import Any

import pytest
import torch

import pyrovae
from pyrovae import InvalidInputError, evaluate, from_networks, log_weights

SHAPES = {"image": (1, 3, 4), "sound": (5,)}


@pytest.mark.parametrize(("loss", "likelihood"), [("mse", "FixedNormal"), ("bce", "BernoulliMean")])
def test_a_whole_model_of_pythae_is_its_networks(loss: str, likelihood: str, seed: int) -> None:
    models = pytest.importorskip("pythae.models", reason="pythae is not installed: pip install 'pyrovae[test]'")
    torch.manual_seed(0)
    vae = models.VAE(models.VAEConfig(input_dim=(1, 3, 4), latent_dim=2, reconstruction_loss=loss))
    whole = from_networks(vae)
    family = pyrovae.likelihoods.FixedNormal(1.0) if loss == "mse" else pyrovae.likelihoods.BernoulliMean()
    parts = from_networks(vae.encoder, vae.decoder, 2, family, shape=(1, 3, 4))
    assert type(whole[0].likelihood).__name__ == likelihood
    x, found = torch.rand(6, 12).round(), []
    for pair in (whole, parts):
        torch.manual_seed(seed)
        found.append(log_weights(*pair, x, 5))
    assert torch.equal(*found)
    with pytest.raises(InvalidInputError, match="AE of pythae has another prior, posterior or loss"):
        from_networks(models.AE(models.AEConfig(input_dim=(1, 3, 4), latent_dim=2)))


def jmvae(kind: str = "normal", scales: tuple[float, float] = (0.5, 2.0)) -> Any:
    multivae = pytest.importorskip("multivae.models", reason="MultiVae is not installed: pip install multivae")
    torch.manual_seed(0)
    config = multivae.JMVAEConfig(
        n_modalities=2,
        latent_dim=2,
        input_dims=SHAPES,
        decoders_dist=dict.fromkeys(SHAPES, kind),
        decoder_dist_params={
            name: {} if kind == "bernoulli" else {"scale": s} for name, s in zip(SHAPES, scales, strict=True)
        },
    )
    return multivae.JMVAE(config).eval()


def points(kind: str, count: int = 6) -> torch.Tensor:
    x = torch.rand(count, 17)
    return x.round() if kind == "bernoulli" else x


def as_modalities(x: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"image": x[:, :12].reshape(-1, 1, 3, 4), "sound": x[:, 12:]}


@pytest.mark.parametrize("kind", ["normal", "laplace", "bernoulli"])
def test_multivae_log_weights_are_those_of_a_direct_computation(kind: str, seed: int) -> None:
    model, x = jmvae(kind), points(kind)
    pair = from_networks(model)
    torch.manual_seed(seed)
    own = log_weights(*pair, x, 20)
    torch.manual_seed(seed)
    with torch.no_grad():
        code = model.joint_encoder(as_modalities(x))
        sigma = (code.log_covariance / 2).exp()
        z = torch.distributions.Normal(code.embedding, sigma).rsample((20,))
        means = {name: torch.stack([net(row).reconstruction for row in z]) for name, net in model.decoders.items()}
        densities = {
            "normal": lambda eta, scale: torch.distributions.Normal(eta, scale),
            "laplace": lambda eta, scale: torch.distributions.Laplace(eta, scale),
            "bernoulli": lambda eta, scale: torch.distributions.Bernoulli(logits=eta),
        }
        total = torch.zeros(())
        for (name, value), scale in zip(as_modalities(x).items(), (0.5, 2.0), strict=True):
            total = total + densities[kind](means[name], scale).log_prob(value).flatten(2).sum(-1)
        log_prior = (-(z**2) / 2 - 0.5 * math.log(2 * math.pi)).sum(-1)
        log_q = torch.distributions.Normal(code.embedding, sigma).log_prob(z).sum(-1)
    torch.testing.assert_close(own, total + log_prior - log_q, rtol=1e-5, atol=1e-4)


def test_multivae_own_estimate(seed: int) -> None:
    """`compute_joint_nll` is minus the sum of log p̂: ours is within 6 standard errors of it, each of its 400 draws a point."""
    model, x = jmvae(), points("normal")
    found = evaluate(*from_networks(model), x, num_samples=4000, seed=seed, progress=False)
    torch.manual_seed(seed)
    with torch.no_grad():
        theirs = -float(model.compute_joint_nll(types.SimpleNamespace(data=as_modalities(x)), K=400)) / len(x)
    mean = found.mean_log_likelihood
    assert abs(theirs - mean.value) < 6 * mean.mc_se * 11**0.5 + 1e-3


def test_models_that_are_no_pair_are_refused() -> None:
    model = jmvae()
    model.model_config.decoders_dist = {"image": "normal", "sound": "bernoulli"}
    with pytest.raises(InvalidInputError, match="of the kinds image normal, sound bernoulli: a pair takes all normal"):
        from_networks(model)
    with pytest.raises(InvalidInputError, match=r"x has 4 columns, and the modalities have 12 of image \+ 5 of sound"):
        log_weights(*from_networks(jmvae()), torch.rand(3, 4))
    multivae = pytest.importorskip("multivae.models")
    with pytest.raises(InvalidInputError, match="MMVAE of MultiVae has no joint encoder"):
        from_networks(multivae.MMVAE(multivae.MMVAEConfig(n_modalities=2, latent_dim=2, input_dims=SHAPES)))


def test_a_network_alone_is_no_pair() -> None:
    with pytest.raises(InvalidInputError, match="Linear is no model of pythae or MultiVae: give from_networks"):
        from_networks(torch.nn.Linear(2, 2))
    with pytest.raises(InvalidInputError, match="Give encoder, decoder, latent and likelihood, or one whole model"):
        from_networks(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), likelihood=pyrovae.likelihoods.Bernoulli())
