"""PPCA's exact identities, and SVI against the closed-form maximum likelihood (divisor n)."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyrovae
from pyrovae import fit, load, log_weights


def closed_form(x, latent):
    """max over W, μ, σ of the mean log-likelihood, nats per point (Tipping & Bishop 1999, eq. 3.2-3.8)."""
    n, d = x.shape
    eigenvalues = torch.linalg.eigvalsh((x - x.mean(0)).mT @ (x - x.mean(0)) / n).flip(0)
    kept, noise = eigenvalues[:latent], eigenvalues[latent:].mean()
    return -0.5 * (kept.log().sum() + (d - latent) * noise.log() + d * math.log(2 * math.pi) + d).item()


def test_exact_guide_has_weights_without_variance(seed):
    torch.manual_seed(seed)
    x = torch.randn(30, 7).double()
    model, guide = load("ppca")(7, latent=3)
    model.double()
    torch.testing.assert_close(log_weights(model, guide, x, 6), model.log_prob(x).expand(6, 30), rtol=0, atol=1e-10)


def test_log_prob_and_posterior_are_those_of_the_joint_gaussian(seed):
    torch.manual_seed(seed)
    model, _ = load("ppca")(5, latent=2)
    model.double()
    x = torch.randn(4, 5).double()
    W, mu, variance = model.W.detach(), torch.randn(5).double(), 0.3
    with torch.no_grad():
        model.mu.copy_(mu)
        model.log_sigma.fill_(0.5 * math.log(variance))
    covariance = W @ W.mT + variance * torch.eye(5).double()
    expected = torch.distributions.MultivariateNormal(mu, covariance).log_prob(x)
    torch.testing.assert_close(model.log_prob(x), expected, rtol=0, atol=1e-10)
    gain = W.mT @ torch.linalg.inv(covariance)  # Cov(z, x) Cov(x)⁻¹
    torch.testing.assert_close(model.encode(x), (x - mu) @ gain.mT, rtol=0, atol=1e-10)
    spread = (torch.eye(2).double() - gain @ W).expand(4, 2, 2)
    torch.testing.assert_close(model.posterior(x).covariance_matrix, spread, rtol=0, atol=1e-10)
    torch.testing.assert_close(model.decode(torch.zeros(1, 2).double())[0], mu)


def test_svi_on_digits_reaches_the_closed_form(seed):
    """Within 0.01 nat per training point, from random directions that begin nats away."""
    x = pyrovae.load_data("digits").train
    best = closed_form(x.double(), 8)
    model, guide = load("ppca")(64, latent=8)
    torch.manual_seed(seed)
    model.initialise(x)
    assert model.log_prob(x).mean().item() < best - 5
    fit(model, guide, x, epochs=300, batch_size=None, lr=2e-2, seed=seed)  # the pair's recipe
    assert best - 0.01 < model.log_prob(x).mean().item() < best + 1e-3


def test_principal_directions_are_the_covariances_eigenvectors():
    torch.manual_seed(0)
    x = torch.randn(500, 6).double() * torch.tensor([5.0, 3.0, 2.0, 0.5, 0.5, 0.5])
    model, guide = load("ppca")(6, latent=3)
    model.double()
    fit(model, guide, x, epochs=600, batch_size=None, lr=0.03)
    eigenvectors = torch.linalg.eigh(torch.cov(x.mT))[1].flip(1)[:, :3]
    cosines = (model.principal_directions() * eigenvectors).sum(0).abs()
    assert (cosines > 1 - 1e-4).all()


def test_linear_gaussian_guide_has_no_gap_when_trained():
    """The posterior is in its family, so the ELBO reaches log p(x)."""
    torch.manual_seed(0)
    x = torch.randn(200, 5) @ torch.randn(5, 5)
    model, guide = load("ppca")(5, latent=2, guide=pyrovae.LinearGaussian)
    fit(model, guide, x, epochs=800, batch_size=None, lr=0.02)
    found = pyrovae.evaluate(model, guide, x, samples=500)
    assert found.exact_log_likelihood.mean() - found.mean_elbo.value < 0.01


def test_mean_field_gap_is_that_of_the_best_diagonal():
    """Exact mean, D⁻¹ = diag(P): gap = ½ [Σ ln P_ii − ln det P]."""
    torch.manual_seed(0)
    model, _ = load("ppca")(4, latent=2)
    model.double()
    with torch.no_grad():
        model.W.normal_()
        model.log_sigma.fill_(-0.5)
        precision = model.posterior(torch.zeros(1, 4).double()).precision_matrix[0]

    class BestDiagonal(pyrovae.Module):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                scale = precision.diagonal().rsqrt()
                pyro.sample("z", dist.Normal(model.encode(x), scale).to_event(1))

    found = pyrovae.evaluate(model, BestDiagonal(), torch.randn(5, 4).double(), samples=20_000)
    gap = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision)).item()
    assert gap > 0.02
    assert ((found.exact_log_likelihood - found.elbo - gap).abs() < 6 * found.elbo_se).all()
    assert ((found.gap - gap).abs() < 6 * found.gap_se).all()


def test_latent_space_is_smaller_than_the_data():
    assert load("ppca")(3)[0].W.shape == (3, 2)
    with pytest.raises(pyrovae.Refusal, match="latent=5 .* x has 4 numbers"):
        load("ppca")(4, latent=5)
