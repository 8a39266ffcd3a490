"""PPCA's exact identities, and SVI against the closed-form maximum likelihood (divisor n)."""

import importlib
import math

import numpy as np
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


def at_random(model, x):
    """Random directions at the data's mean and spread, where `initialise` would begin at the best."""
    with torch.no_grad():
        spread = x.var(dim=0, correction=0).mean().sqrt()
        model.mu.copy_(x.mean(dim=0))
        model.log_sigma.copy_(spread.log())
        model.W.copy_(torch.linalg.qr(torch.randn_like(model.W))[0] * spread)
        model.initialised.fill_(True)


def test_svi_on_digits_reaches_the_closed_form(seed):
    """Within 0.01 nat per training point, from random directions that begin nats away."""
    x = pyrovae.load_data("digits").train
    best = closed_form(x.double(), 8)
    model, guide = load("ppca")(64, latent=8)
    torch.manual_seed(seed)
    at_random(model, x)
    assert model.log_prob(x).mean().item() < best - 5
    fit(model, guide, x, epochs=300, batch_size=None, lr=2e-2, seed=seed)
    assert best - 0.01 < model.log_prob(x).mean().item() < best + 1e-3


def test_recipe_on_digits_stays_at_the_closed_form(seed):
    x = pyrovae.load_data("digits").train
    model, guide = load("ppca")(64, latent=8)
    recipe = load("ppca").recipe
    fit(model, guide, x, epochs=recipe["steps"], batch_size=recipe["batch_size"], lr=recipe["lr"], seed=seed)
    assert abs(model.log_prob(x).mean().item() - closed_form(x.double(), 8)) < 1e-3


def test_start_is_the_closed_form_of_what_it_sees(seed):
    """To 1e-3 nats: what a randomised decomposition leaves."""
    x = pyrovae.load_data("digits").train.double()
    model, _ = load("ppca")(64, latent=8)
    model.double()
    torch.manual_seed(seed)
    model.initialise(x)
    assert closed_form(x, 8) - 1e-3 < model.log_prob(x).mean().item() < closed_form(x, 8) + 1e-9


def test_em_from_random_directions_climbs_to_the_closed_form(seed, monkeypatch):
    """In chunks of 100 points, never down, and to rounding where the spectrum has a gap behind the k-th eigenvalue."""
    monkeypatch.setattr(importlib.import_module("pyrovae.models.ppca"), "NUMBERS", 100 * 7)
    torch.manual_seed(seed)
    x = torch.randn(350, 7).double() * torch.tensor([5.0, 3.0, 2.0, 0.5, 0.4, 0.4, 0.3]).double() + 10
    model, _ = load("ppca")(7, latent=3)
    model.double()
    at_random(model, x)
    with torch.no_grad():
        model.mu.zero_()  # far from the data
    before = model.log_prob(x).mean().item()
    trace = [model.em_step(x).item() for _ in range(1000)]
    assert trace[0] == pytest.approx(before, abs=1e-9)
    assert np.diff(trace).min() > -1e-9
    assert trace[-1] == pytest.approx(closed_form(x, 3), abs=1e-9)


def test_em_step_is_tipping_and_bishops(seed):
    """Their equations (B.9) and (B.10) for W and σ², written with the dense covariance S of the data."""
    torch.manual_seed(seed)
    x = torch.randn(40, 5).double() @ torch.randn(5, 5).double()
    model, _ = load("ppca")(5, latent=2)
    model.double()
    at_random(model, x)
    W, variance = model.W.detach().clone(), model.noise.item()
    S = torch.cov(x.mT, correction=0)
    M = W.mT @ W + variance * torch.eye(2).double()
    new = S @ W @ torch.linalg.inv(variance * torch.eye(2).double() + torch.linalg.inv(M) @ W.mT @ S @ W)
    noise = torch.trace(S - S @ W @ torch.linalg.inv(M) @ new.mT) / 5
    model.em_step(x)
    torch.testing.assert_close(model.W.detach(), new, rtol=1e-10, atol=1e-10)
    assert model.noise.item() == pytest.approx(noise.item(), rel=1e-10)
    torch.testing.assert_close(model.mu.detach(), x.mean(0))


@pytest.mark.parametrize("points", [1, 2, 4, 7])
def test_as_many_directions_as_points(points):
    """W holds them all, which leaves no noise: no lower learning rate would help."""
    x = torch.randn(points, 9)
    with pytest.raises(
        pyrovae.InvalidInputError, match=rf"latent=6 directions hold all of {points} points.* has no maximum"
    ):
        fit(*load("ppca")(9, latent=6), x)


def test_as_many_directions_as_the_message_says():
    x = torch.randn(7, 9)
    model, guide = load("ppca")(9, latent=5)
    fit(model, guide, x, epochs=3, batch_size=None)
    assert torch.isfinite(model.log_prob(x)).all()


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
    model, guide = load("ppca")(5, latent=2, guide=pyrovae.guides.LinearGaussian)
    fit(model, guide, x, epochs=800, batch_size=None, lr=0.05)  # the guide has far to go: the model begins at its best
    found = pyrovae.evaluate(model, guide, x, num_samples=500)
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

    found = pyrovae.evaluate(model, BestDiagonal(), torch.randn(5, 4).double(), num_samples=20_000)
    gap = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision)).item()
    assert gap > 0.02
    assert ((found.exact_log_likelihood - found.elbo - gap).abs() < 6 * found.elbo_se).all()
    assert ((found.gap - gap).abs() < 6 * found.gap_se).all()


def test_latent_space_is_smaller_than_the_data():
    assert load("ppca")(3)[0].W.shape == (3, 2)
    with pytest.raises(pyrovae.InvalidInputError, match="latent=5 .* x has 4 numbers"):
        load("ppca")(4, latent=5)
