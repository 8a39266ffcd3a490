"""Mixtures of PPCAs and of factor analysers against mixtures of dense Gaussians, and against scikit-learn's."""

import math

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

import pyrovae
from pyrovae import fit, load, log_weights

BOTH = pytest.mark.parametrize("name", ["mixture_ppca", "mixture_fa"])


def made(name, dim=5, components=3, latent=2, points=6):
    """Parameters far from any start, in double precision."""
    model, guide = load(name)(dim, components=components, latent=latent)
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model, guide, torch.randn(points, dim).double()


def dense(model):
    """π, μ and Σ_k = W_k W_kᵀ + diag ψ_k."""
    psi = model.noise.expand_as(model.mu)
    covariance = model.W @ model.W.mT + torch.diag_embed(psi)
    return model.logits.softmax(0).detach(), model.mu.detach(), covariance.detach()


@BOTH
def test_log_prob_is_the_dense_mixtures_and_every_weight_is_log_prob(name, seed):
    torch.manual_seed(seed)
    model, guide, x = made(name)
    pi, mu, covariance = dense(model)
    each = torch.distributions.MultivariateNormal(mu, covariance).log_prob(x.unsqueeze(1)) + pi.log()
    torch.testing.assert_close(model.log_prob(x).detach(), each.logsumexp(1), rtol=0, atol=1e-9)
    torch.testing.assert_close(model.responsibilities(x).probs.detach(), each.softmax(1), rtol=0, atol=1e-9)
    found = log_weights(model, guide, x, 7).detach()
    torch.testing.assert_close(found, each.logsumexp(1).expand(7, 6), rtol=0, atol=1e-9)


@BOTH
def test_the_posterior_given_a_component_is_the_joint_gaussians(name, seed):
    torch.manual_seed(seed)
    model, _, x = made(name)
    _, mu, covariance = dense(model)
    k = torch.arange(3).unsqueeze(-1)  # all components for every point
    found = model.posterior_given(x, k)
    for j in range(3):
        gain = model.W[j].detach().mT @ torch.linalg.inv(covariance[j])
        torch.testing.assert_close(found.mean[j].detach(), (x - mu[j]) @ gain.mT, rtol=0, atol=1e-8)
        spread = torch.eye(2).double() - gain @ model.W[j].detach()
        torch.testing.assert_close(found.covariance_matrix[j, 0].detach(), spread, rtol=0, atol=1e-8)


@BOTH
def test_draws_have_the_mixtures_moments(name, seed):
    torch.manual_seed(seed)
    model, _, x = made(name)
    pi, mu, covariance = dense(model)
    draws = pyrovae.sample(model, 40_000, x)
    mean = pi @ mu
    spread = torch.einsum("k,kde->de", pi, covariance + mu.unsqueeze(2) * mu.unsqueeze(1)) - mean.outer(mean)
    assert ((draws.mean(0) - mean).abs() < 6 * (spread.diagonal() / 40_000).sqrt()).all()
    products = (draws - mean).unsqueeze(2) * (draws - mean).unsqueeze(1)
    assert ((products.mean(0) - spread).abs() < 6 * products.std(0) / 40_000**0.5).all()


@BOTH
def test_em_step_is_the_two_stages_of_the_paper(name, seed):
    """By dense matrices: π and μ by the responsibilities; then W = S W (σ² M⁻¹ …)⁻¹, here as S G (I − GᵀW + GᵀS G)⁻¹ with
    G = Σ⁻¹W and S the weighted covariance about the new mean, and ψ from diag(S − W_new GᵀS)."""
    torch.manual_seed(seed)
    model, _, x = made(name, points=80)
    _, _, covariance = dense(model)
    W = model.W.detach().clone()
    r = model.responsibilities(x).probs.detach()
    before = model.log_prob(x).mean().item()
    assert model.em_step(x).item() == pytest.approx(before, abs=1e-10)
    torch.testing.assert_close(model.logits.softmax(0).detach(), r.mean(0), rtol=0, atol=1e-10)
    for k in range(3):
        weight = r[:, k] / r[:, k].sum()
        mean = weight @ x
        S = (x - mean).mT @ ((x - mean) * weight.unsqueeze(1))
        G = torch.linalg.inv(covariance[k]) @ W[k]
        new = S @ G @ torch.linalg.inv(torch.eye(2).double() - G.mT @ W[k] + G.mT @ S @ G)
        torch.testing.assert_close(model.mu[k].detach(), mean, rtol=0, atol=1e-9)
        torch.testing.assert_close(model.W[k].detach(), new, rtol=1e-7, atol=1e-7)
        psi = (S - new @ G.mT @ S).diagonal()
        psi = psi.mean().expand(1) if name == "mixture_ppca" else psi
        torch.testing.assert_close(model.noise[k].detach(), psi.clamp(min=1e-3), rtol=1e-5, atol=1e-8)


@BOTH
def test_em_is_monotone(name, seed):
    torch.manual_seed(seed)
    model, _, x = made(name, points=60)
    trace = [model.em_step(x).item() for _ in range(60)]
    assert np.diff(trace).min() > -1e-9
    assert trace[-1] > trace[0]


def test_one_component_is_ppca(seed):
    """EM's end, and the closed form of Tipping & Bishop (1999, eq. 3.7 to 3.9), within 1e-4 nat per point."""
    torch.manual_seed(seed)
    x = torch.randn(200, 5).double() * torch.tensor([4.0, 3.0, 1.0, 0.9, 0.8]).double()
    model, guide = load("mixture_ppca")(5, components=1, latent=2)
    model.double()
    model.initialise(x)
    pyrovae.EM(steps=200, tol=0)(model, x)
    values = torch.linalg.eigvalsh(torch.cov(x.mT, correction=0)).flip(0)
    rest = values[2:].mean()
    best = -0.5 * (values[:2].log().sum() + 3 * rest.log() + 5 * math.log(2 * math.pi) + 5)
    assert model.log_prob(x).mean().item() == pytest.approx(best.item(), abs=1e-4)
    torch.testing.assert_close(log_weights(model, guide, x)[0], model.log_prob(x), rtol=0, atol=1e-10)


def test_with_all_but_one_direction_it_is_scikit_learns_mixture(seed):
    """q = D − 1 leaves Σ_k free, but for a smallest eigenvalue that is σ_k²: from scikit-learn's own end, EM gains nothing."""
    torch.manual_seed(seed)
    x = torch.cat([torch.randn(200, 3), torch.randn(200, 3) * torch.tensor([2.0, 1.0, 0.5]) + 8]).double()
    judge = GaussianMixture(2, reg_covar=0, tol=1e-10, max_iter=1000, random_state=seed).fit(x.numpy())
    model, _ = load("mixture_ppca")(3, components=2, latent=2, floor=1e-6)
    model.double().initialise(x)
    pyrovae.EM(steps=1000, tol=0)(model, x)
    assert model.log_prob(x).mean().item() == pytest.approx(judge.score(x.numpy()), abs=1e-3)


def test_on_held_out_digits_it_beats_both_of_its_parents():
    """PPCA, and the mixture of spherical Gaussians with more parameters than it has, each by more than 2 standard errors."""
    data = pyrovae.load_data("digits")
    pairs = {"mixture_ppca": load("mixture_ppca")(64), "ppca": load("ppca")(64)}
    pairs["spherical"] = load("gmm")(64, components=50, covariance=pyrovae.likelihoods.Spherical)
    for name, (model, guide) in pairs.items():
        fit(model, guide, data.train, epochs=5, batch_size=None, lr=1e-3, init="em" if name == "spherical" else None)
    found = pyrovae.compare(pairs, data.test, num_samples=2)
    assert found.evidence["spherical"].parameters > found.evidence["mixture_ppca"].parameters
    for parent in ("ppca", "spherical"):
        value, _, data_se = found.difference("mixture_ppca", parent)
        assert value > 2 * data_se > 0


def test_bad_options():
    for options in ({"latent": 4}, {"latent": 0}, {"components": 0}):
        with pytest.raises(pyrovae.InvalidInputError, match="at least 1 component, and 1 to 3 directions"):
            load("mixture_ppca")(4, **options)
    with pytest.raises(pyrovae.InvalidInputError, match="is no floor of variances"):
        load("mixture_fa")(4, floor=0.0)
    model, _ = load("mixture_ppca")(4, components=3)
    with pytest.raises(pyrovae.InvalidInputError, match="at least as many different points; there are 2"):
        model.initialise(torch.tensor([[0.0, 0, 0, 0], [1, 1, 1, 1]]).repeat(5, 1))
