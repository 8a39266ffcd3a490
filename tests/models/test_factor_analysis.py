"""Factor analysis against the dense Gaussian that it is, and against scikit-learn's maximum likelihood."""

import importlib
import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import FactorAnalysis

import pyrovae
from pyrovae import fit, load, log_weights


def made(dim=6, latent=2, points=4):
    model, guide = load("factor_analysis")(dim, latent=latent)
    model.double()
    with torch.no_grad():
        model.W.normal_()
        model.mu.normal_()
        model.rho.normal_()
    return model, guide, torch.randn(points, dim).double()


def test_log_prob_and_posterior_are_those_of_the_joint_gaussian(seed):
    torch.manual_seed(seed)
    model, guide, x = made()
    W, mu, psi = model.W.detach(), model.mu.detach(), model.noise.detach()
    assert psi.shape == (6,)
    covariance = W @ W.mT + psi.diag()
    expected = torch.distributions.MultivariateNormal(mu, covariance).log_prob(x)
    torch.testing.assert_close(model.log_prob(x), expected, rtol=0, atol=1e-10)
    gain = W.mT @ torch.linalg.inv(covariance)  # Cov(z, x) Cov(x)⁻¹
    torch.testing.assert_close(model.encode(x), (x - mu) @ gain.mT, rtol=0, atol=1e-10)
    spread = (torch.eye(2).double() - gain @ W).expand(4, 2, 2)
    torch.testing.assert_close(model.posterior(x).covariance_matrix, spread, rtol=0, atol=1e-10)
    torch.testing.assert_close(log_weights(model, guide, x, 6), expected.expand(6, 4), rtol=0, atol=1e-10)


def test_draws_have_the_models_covariance(seed):
    torch.manual_seed(seed)
    model, _, x = made()
    draws = pyrovae.sample(model, 60_000, x)
    covariance = (model.W @ model.W.mT + model.noise.diag()).detach()
    error = ((covariance.square() + covariance.diagonal()[:, None] * covariance.diagonal()) / 60_000).sqrt()
    assert ((torch.cov(draws.mT) - covariance).abs() < 6 * error).all()


def test_log_prob_is_scikit_learns_at_its_maximum():
    x = pyrovae.load_data("digits").train.double()
    judge = FactorAnalysis(5, tol=1e-6, max_iter=2000, svd_method="lapack").fit(x.numpy())
    model, _ = load("factor_analysis")(64, latent=5, floor=1e-6)
    model.double()
    with torch.no_grad():
        model.W.copy_(torch.as_tensor(judge.components_.T))
        model.mu.copy_(torch.as_tensor(judge.mean_))
        model.rho.copy_((torch.as_tensor(judge.noise_variance_) - 1e-6).log())
    np.testing.assert_allclose(model.log_prob(x).detach().numpy(), judge.score_samples(x.numpy()), atol=1e-8)


def test_em_and_svi_reach_scikit_learns_maximum_on_digits(seed):
    """SVI by the pair's recipe, and EM, each within 0.05 nat per point of scikit-learn's, which has no floor: ours is below every
    noise variance here."""
    x = pyrovae.load_data("digits").train
    judge = FactorAnalysis(8, tol=1e-6, max_iter=2000, svd_method="lapack").fit(x.double().numpy())
    best = judge.score(x.double().numpy())
    assert judge.noise_variance_.min() > 1.1e-4
    torch.manual_seed(seed)
    model, guide = load("factor_analysis")(64, latent=8)
    recipe = load("factor_analysis").recipe
    fit(model, guide, x, epochs=recipe["steps"], batch_size=recipe["batch_size"], lr=recipe["lr"], seed=seed)
    assert abs(model.log_prob(x).mean().item() - best) < 0.05
    model, _ = load("factor_analysis")(64, latent=8)
    trace = pyrovae.EM(steps=500, tol=1e-5)(model.double(), x.double())
    assert np.diff(trace).min() > -1e-9
    assert abs(model.log_prob(x.double()).mean().item() - best) < 0.05


def test_em_is_monotone_with_noise_at_the_floor(seed, monkeypatch):
    """x_0 is a factor itself: its noise goes to the floor, and stops there."""
    monkeypatch.setattr(importlib.import_module("pyrovae.models.ppca"), "NUMBERS", 64 * 5)
    torch.manual_seed(seed)
    z = torch.randn(300, 1).double()
    x = torch.cat([z, z + torch.randn(300, 4).double()], dim=1)
    x[:, 0] /= x[:, 0].std(correction=0)  # the floor is a fraction of the variance of a column
    model, _ = load("factor_analysis")(5, latent=1, floor=0.3)
    model.double().initialise(x)
    trace = [model.em_step(x).item() for _ in range(300)]
    assert np.diff(trace).min() > -1e-9
    noise = model.noise.detach()
    assert noise[0].item() == pytest.approx(0.3, rel=1e-5)
    assert (noise[1:] > 0.5).all()


def test_em_step_is_rubin_and_thayers(seed):
    """W = S G (I − GᵀW + GᵀS G)⁻¹ and ψ = diag(S − W GᵀS), G = Σ⁻¹W, written with dense matrices."""
    torch.manual_seed(seed)
    model, _, x = made(points=50)
    W, S = model.W.detach().clone(), torch.cov(x.mT, correction=0)
    G = torch.linalg.inv(W @ W.mT + model.noise.detach().diag()) @ W
    new = S @ G @ torch.linalg.inv(torch.eye(2).double() - G.mT @ W + G.mT @ S @ G)
    before = model.log_prob(x).mean().item()
    assert model.em_step(x).item() == pytest.approx(before, abs=1e-10)
    torch.testing.assert_close(model.W.detach(), new, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.noise.detach(), (S - new @ G.mT @ S).diagonal(), rtol=1e-9, atol=1e-9)


def test_units_do_not_matter_to_the_start(seed):
    """x_d in other units has another density, by their Jacobian only."""
    torch.manual_seed(seed)
    x = torch.randn(200, 6).double() @ torch.randn(6, 6).double()
    units = torch.tensor([1.0, 100.0, 0.1, 7.0, 1.0, 20.0]).double()

    def started(points):
        torch.manual_seed(seed)
        model, _ = load("factor_analysis")(6, latent=2, floor=1e-8)
        model.double().initialise(points)
        return model.log_prob(points).mean().item()

    assert started(x * units) + units.log().sum().item() == pytest.approx(started(x), abs=1e-6)


def test_amortised_guide_of_the_right_family_closes_its_gap():
    torch.manual_seed(0)
    x = torch.randn(200, 5) @ torch.randn(5, 5)
    model, guide = load("factor_analysis")(5, latent=1, guide=pyrovae.guides.LinearGaussian)
    fit(model, guide, x, epochs=800, batch_size=None, lr=0.05)
    found = pyrovae.evaluate(model, guide, x, num_samples=500)
    assert found.exact_log_likelihood.mean() - found.mean_elbo.value < 0.01


def test_bad_options():
    for floor in (0.0, -1.0, math.inf):
        with pytest.raises(pyrovae.InvalidInputError, match="is no floor of variances"):
            load("factor_analysis")(4, floor=floor)
    with pytest.raises(pyrovae.InvalidInputError, match="latent=5 .* x has 4 numbers"):
        load("factor_analysis")(4, latent=5)
