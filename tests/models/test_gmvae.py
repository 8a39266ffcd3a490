"""Summing y out of a Gaussian-mixture VAE leaves a VAE whose prior is the mixture: the same weights, draw by draw."""

import pytest
import torch

import pyrovae
from pyrovae import check_pair, fit, load, log_weights


def twins():
    """A GMVAE, and a VAE with the same decoder under pyrovae's mixture prior of the same parameters."""
    model, guide = load("gmvae")(5, latent=3, components=4, hidden=(8,))
    prior = pyrovae.priors.MixtureOfGaussians(4).bind(5, 3, guide)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for name in ("logits", "loc", "rho"):
            getattr(prior, name).copy_(getattr(model, name))
    twin = load("vae").module.VAE(model.decoder, 3, 5, model.likelihood, prior)
    with torch.no_grad():
        twin.offset.copy_(model.offset)
    return model.double(), twin.double(), guide.double()


def test_its_weights_are_those_of_a_mixture_prior(seed):
    model, twin, guide = twins()
    x = torch.rand(7, 5).double()
    torch.manual_seed(seed)
    summed = log_weights(model, guide, x, 6)
    torch.manual_seed(seed)
    torch.testing.assert_close(summed, log_weights(twin, guide, x, 6), rtol=1e-10, atol=1e-10)


def test_the_clusters_are_bayes_rule_over_draws_of_the_prior(seed):
    """Of z drawn with their y, the mean of p(y|z) over the z of a y is what draws of that y say: Σ_z p(y|z) = its number."""
    model, _, _ = twins()
    with torch.no_grad():
        y = torch.distributions.Categorical(logits=model.logits).sample((40_000,))
        scale = pyrovae.guides.positive(model.rho)
        z = model.loc[y] + scale[y] * torch.randn(40_000, 3).double()
        p = model.cluster(z)
    error = p - torch.nn.functional.one_hot(y, 4)
    assert (error.mean(0).abs() < 6 * error.std(0) / 200).all()
    weighted = error * z[:, :1]  # calibrated given z, not only on average
    assert (weighted.mean(0).abs() < 6 * weighted.std(0) / 200).all()


@pytest.mark.parametrize("guide", [pyrovae.guides.MeanField, pyrovae.guides.Mixture, pyrovae.guides.AffineCoupling])
def test_contract(guide):
    check_pair(*load("gmvae")(5, latent=3, components=4, hidden=(8,), guide=guide), torch.rand(16, 5))


def test_it_finds_the_clusters_of_data_that_have_some():
    """Three groups far apart, one latent number: p(y|z) at the guide's mean parts them without labels."""
    torch.manual_seed(0)
    label = torch.arange(300) % 3
    x = torch.eye(3)[label] * 2 + 0.2 * torch.randn(300, 3)
    model, guide = load("gmvae")(
        3, latent=2, components=3, hidden=(16,), likelihood=pyrovae.likelihoods.FixedNormal(0.2)
    )
    fit(model, guide, x, epochs=60, batch_size=100, lr=1e-2, compile=False)
    with torch.no_grad():
        p = model.cluster(guide.distribution(guide.encoder(x)).mean)
    together = torch.stack([p[label == group].mean(0) for group in range(3)])
    within = (p @ p.mT)[label[:, None] == label].mean()
    between = (p @ p.mT)[label[:, None] != label].mean()
    assert within > between + 0.2, together
