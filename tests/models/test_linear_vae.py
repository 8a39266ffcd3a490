"""A linear VAE against probabilistic PCA's closed form, by Lucas et al. (2019): their theorem 1 and their account of collapse."""

import math

import pytest
import torch

import pyrovae
from pyrovae import evaluate, fit, load, log_weights

EIGENVALUES = torch.tensor([6.0, 3.0, 1.5, 0.6, 0.4, 0.3]).double()


def data(points=400):
    """x whose covariance (divisor N) has exactly these eigenvalues, in a random basis."""
    x = torch.randn(points, 6).double()
    x = x - x.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(x.mT @ x / points), x.mT, upper=False).mT
    return white * EIGENVALUES.sqrt() @ torch.linalg.qr(torch.randn(6, 6).double())[0] + 1


def from_anywhere(x, seed, **options):
    """Fitted from a random start, not from PCA's."""
    model, guide = load("linear_vae")(6, **options)
    model.double().initialised.fill_(True)
    guide.double()
    fit(model, guide, x, epochs=1500, batch_size=None, lr=3e-2, seed=seed, compile=False)
    return model, guide


@pytest.mark.slow
def test_elbo_reaches_ppcas_likelihood_and_columns_are_orthogonal(seed):
    """0.01 nat per point from the closed form (Tipping & Bishop 1999, eq. 3.9 and 3.7), and from the ELBO to log p(x). What W's
    columns lack to be orthogonal is the gap of the best diagonal q, ½[Σ log P_jj − log det P]: 0.002 nat."""
    torch.manual_seed(seed)
    x = data()
    model, guide = from_anywhere(x, seed, latent=3)
    rest = EIGENVALUES[3:].mean()
    best = -0.5 * (EIGENVALUES[:3].log().sum() + 3 * rest.log() + 6 * math.log(2 * math.pi) + 6)
    found = evaluate(model, guide, x, num_samples=1000)
    assert found.exact_log_likelihood.mean() == pytest.approx(best.item(), abs=0.01)
    assert found.exact_log_likelihood.mean() - found.mean_elbo.value < 0.01
    gram = model.W.detach().mT @ model.W.detach()
    precision = torch.eye(3).double() + gram / model.noise.detach()
    assert 0.5 * (precision.diagonal().log().sum() - precision.logdet()) < 0.002
    lengths = gram.diagonal().sort(descending=True).values
    torch.testing.assert_close(lengths, EIGENVALUES[:3] - rest, rtol=0.02, atol=0)
    width = guide.log_s.exp().sort().values.square()  # s_j² = σ²/λ_j
    torch.testing.assert_close(width, rest / EIGENVALUES[:3], rtol=0.02, atol=0)


@pytest.mark.slow
def test_with_fixed_noise_a_latent_collapses_iff_its_eigenvalue_is_below(seed):
    """σ² = 1.69 is above the third eigenvalue, 1.5, and below the second, 3."""
    torch.manual_seed(seed)
    x = data()
    model, guide = from_anywhere(x, seed, latent=4, sigma=1.3)
    assert model.noise.item() == pytest.approx(1.69, rel=1e-6)
    information = 0.5 * (EIGENVALUES[:4] / 1.69).log().clamp(min=0)  # E KL(q(z_j|x) ‖ p(z_j)) at the optimum
    q = guide.posterior(x).base_dist
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).mean(0).detach()
    torch.testing.assert_close(kl.sort(descending=True).values, information, rtol=0, atol=0.02)
    gains = model.W.detach().square().sum(0).sort(descending=True).values
    torch.testing.assert_close(gains, (EIGENVALUES[:4] - 1.69).clamp(min=0), rtol=0.02, atol=0.05)


def test_the_guides_density_is_a_gaussians(seed):
    """log w = log p(x, z) − log q(z|x) with dense covariances, at the guide's own draws."""
    torch.manual_seed(seed)
    x = torch.randn(4, 6).double()
    model, guide = load("linear_vae")(6, latent=2)
    model.double(), guide.double()
    with torch.no_grad():
        guide.log_s.normal_()
    torch.manual_seed(seed)
    found = log_weights(model, guide, x)[0]
    torch.manual_seed(seed)
    mean, s = x @ guide.encoder.weight.mT + guide.encoder.bias, guide.log_s.exp()
    z = torch.distributions.Normal(mean.expand(1, 4, 2), s).rsample()[0]
    normal = torch.distributions.MultivariateNormal
    log_q = normal(mean, s.square().diag()).log_prob(z)
    joint = normal(torch.zeros(2).double(), torch.eye(2).double()).log_prob(z)
    joint = joint + normal(z @ model.W.mT + model.mu, model.noise * torch.eye(6).double()).log_prob(x)
    torch.testing.assert_close(found, joint - log_q, rtol=0, atol=1e-10)


def test_by_its_recipe_on_digits():
    x = pyrovae.load_data("digits").train
    ppca, exact = load("ppca")(64)
    fit(ppca, exact, x, epochs=0)  # begins at its maximum
    pair = load("linear_vae")
    model, guide = pair(64)
    fit(model, guide, x, epochs=40, batch_size=pair.recipe["batch_size"], lr=pair.recipe["lr"])
    found = evaluate(model, guide, x, num_samples=20)
    assert found.mean_elbo.value == pytest.approx(ppca.log_prob(x).mean().item(), abs=0.01)


def test_bad_options():
    with pytest.raises(pyrovae.InvalidInputError, match="sigma=0.0 is no standard deviation"):
        load("linear_vae")(4, sigma=0.0)
    with pytest.raises(pyrovae.InvalidInputError, match="latent=4 .* x has 4 numbers"):
        load("linear_vae")(4, latent=4)
