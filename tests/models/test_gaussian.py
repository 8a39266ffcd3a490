"""One Gaussian against scipy's, and against the maximum of the likelihood in closed form."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

import pyrovae
from pyrovae import fit, load, log_weights


def fitted(x, **options):
    model, guide = load("gaussian")(x.shape[1], **options)
    model.to(x.dtype)
    fit(model, guide, x, epochs=0)
    return model, guide


def test_log_prob_is_scipys_at_the_maximum_of_the_likelihood(seed):
    torch.manual_seed(seed)
    x = torch.randn(300, 5).double() @ torch.randn(5, 5).double() + 3
    model, guide = fitted(x, floor=1e-8)
    mean, covariance = x.mean(0), torch.cov(x.mT, correction=0)
    torch.testing.assert_close(model.mean, mean, rtol=0, atol=1e-10)
    expected = torch.as_tensor(multivariate_normal(mean.numpy(), covariance.numpy()).logpdf(x.numpy()))
    torch.testing.assert_close(model.log_prob(x).detach(), expected, rtol=0, atol=1e-8)
    # closed form: log p̂ = −½ (log det S + D log 2π + D)
    closed = -0.5 * (torch.logdet(covariance) + 5 * np.log(2 * np.pi) + 5)
    assert model.log_prob(x).mean().item() == pytest.approx(closed.item(), abs=1e-10)
    torch.testing.assert_close(log_weights(model, guide, x, 3), expected.expand(3, 300), rtol=0, atol=1e-8)


def test_no_other_gaussian_is_better(seed):
    """The likelihood's gradient is zero where training begins, so more training stays there."""
    torch.manual_seed(seed)
    x = torch.randn(200, 4).double() @ torch.randn(4, 4).double()
    model, _ = fitted(x, floor=1e-8)
    gradients = torch.autograd.grad(model.log_prob(x).mean(), list(model.parameters()))
    assert max(gradient.abs().max().item() for gradient in gradients) < 1e-10


def test_decode_makes_data_of_white_noise_and_encode_undoes_it(seed):
    torch.manual_seed(seed)
    x = torch.randn(500, 5).double() @ torch.randn(5, 5).double() + 1
    model, _ = fitted(x, floor=1e-8)
    variances, vectors = model.eigen()
    assert (variances.diff() <= 0).all()
    torch.testing.assert_close(vectors @ vectors.mT, torch.eye(5).double(), rtol=0, atol=1e-10)
    rebuilt = vectors @ variances.diag() @ vectors.mT
    torch.testing.assert_close(rebuilt, torch.cov(x.mT, correction=0), rtol=1e-9, atol=1e-9)
    z = model.encode(x)
    torch.testing.assert_close(torch.cov(z.mT, correction=0), torch.eye(5).double(), rtol=0, atol=1e-8)
    torch.testing.assert_close(model.decode(z), x, rtol=0, atol=1e-8)


def test_draws_have_the_datas_covariance(seed):
    torch.manual_seed(seed)
    x = torch.randn(300, 4).double() @ torch.randn(4, 4).double()
    model, _ = fitted(x)
    draws, covariance = pyrovae.sample(model, 60_000, x), torch.cov(x.mT, correction=0)
    error = ((covariance.square() + covariance.diagonal()[:, None] * covariance.diagonal()) / 60_000).sqrt()
    assert ((torch.cov(draws.mT) - covariance).abs() < 6 * error).all()


def test_directions_without_data_have_the_floors_variance():
    x = torch.randn(50, 1).double() * torch.tensor([1.0, 1.0, 0.0]).double()
    x = x / x[:, 0].std(correction=0)
    model, _ = fitted(x, floor=0.01)
    variances, _ = model.eigen()
    torch.testing.assert_close(variances[1:], torch.full((2,), 0.01, dtype=torch.float64), rtol=1e-9, atol=0)
    with pytest.raises(pyrovae.InvalidInputError, match="is no floor of variances"):
        load("gaussian")(3, floor=0.0)


def test_its_evidence_is_exact_and_has_no_gap():
    data = pyrovae.load_data("digits")
    model, guide = fitted(data.train)
    found = pyrovae.evaluate(model, guide, data.test, num_samples=4)
    assert found.latent == "none"
    torch.testing.assert_close(found.elbo, found.exact_log_likelihood, rtol=1e-5, atol=1e-4)
    assert found.gap.abs().max() < 1e-4
