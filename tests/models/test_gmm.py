"""The mixture's exact identities, and SVI against scikit-learn's EM from the same start and floor."""

import copy
import importlib
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import pyrovae
from pyrovae import InvalidInputError, fit, load, log_weights

FAMILIES = {
    "full": pyrovae.likelihoods.Full,
    "diag": pyrovae.likelihoods.Diagonal,
    "spherical": pyrovae.likelihoods.Spherical,
    "tied": pyrovae.likelihoods.Tied,
}


def covariances(model):
    """Σ_k as dense matrices, (K, D, D)."""
    with torch.no_grad():
        family = model.components.family()
        if hasattr(family, "covariance_matrix"):
            return family.covariance_matrix.numpy()
        return torch.diag_embed(family.variance).numpy()


def standardised(x):
    """Columns of mean 0 and variance 1, in which a floor relative to a column's variance is an absolute one."""
    return (x - x.mean(0)) / x.std(0, correction=0)


def as_sklearn(model, kind, **options):
    """scikit-learn's mixture that starts where the model stands."""
    dense = covariances(model)
    precision = {
        "full": lambda: np.linalg.inv(dense),
        "tied": lambda: np.linalg.inv(dense[0]),
        "diag": lambda: 1 / np.diagonal(dense, axis1=1, axis2=2),
        "spherical": lambda: 1 / dense[:, 0, 0],
    }[kind]()
    weights = model.logits.detach().double().softmax(-1).numpy()
    return GaussianMixture(
        len(weights),
        covariance_type=kind,
        weights_init=weights / weights.sum(),
        means_init=model.components.family().mean.detach().numpy(),
        precisions_init=precision,
        **options,
    )


def dense_of(em):
    """scikit-learn's covariances as dense matrices, (K, D, D)."""
    found, dim = em.covariances_, em.means_.shape[1]
    return {
        "full": lambda: found,
        "tied": lambda: found[None].repeat(len(em.means_), axis=0),
        "diag": lambda: found[:, :, None] * np.eye(dim),
        "spherical": lambda: found[:, None, None] * np.eye(dim),
    }[em.covariance_type]()


def started(kind, x, components=4):
    model, guide = load("gmm")(x.shape[1], components=components, covariance=FAMILIES[kind])
    model.double()
    model.initialise(x)
    return model, guide


@pytest.mark.parametrize("kind", FAMILIES)
def test_exact_guide_has_weights_without_variance(kind, seed):
    torch.manual_seed(seed)
    x = torch.randn(40, 5).double() * torch.tensor([1.0, 3.0, 0.1, 1.0, 0.5])
    model, guide = started(kind, x)
    log_w = log_weights(model, guide, x, 6)
    torch.testing.assert_close(log_w, model.log_prob(x).expand(6, 40), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", FAMILIES)
def test_log_prob_is_scikit_learns(kind, seed):
    torch.manual_seed(seed)
    x = torch.randn(60, 5).double() * torch.tensor([1.0, 3.0, 0.1, 1.0, 0.5])
    model, _ = started(kind, x)
    judge = as_sklearn(model, kind, max_iter=1)
    judge._initialize_parameters(x.numpy(), np.random.RandomState(0))  # takes the start as it is
    np.testing.assert_allclose(model.log_prob(x).detach().numpy(), judge.score_samples(x.numpy()), atol=1e-9)
    np.testing.assert_allclose(model.posterior(x).probs.detach().numpy(), judge.predict_proba(x.numpy()), atol=1e-9)


@pytest.mark.parametrize("kind", FAMILIES)
def test_start_is_the_moments_of_the_clusters(kind):
    torch.manual_seed(0)
    x = torch.cat([torch.randn(50, 3) + offset for offset in (-8.0, 0.0, 8.0)]).double()
    model, _ = started(kind, x, components=3)
    family = model.components.family()
    found = family.mean.detach()[:, 0].sort().values
    truth = torch.stack([x[start : start + 50, 0].mean() for start in (0, 50, 100)])
    torch.testing.assert_close(found, truth, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.logits.softmax(-1).detach(), torch.full((3,), 1 / 3).double())
    within = torch.cat([part - part.mean(0) for part in x.split(50)]).square().mean()
    assert np.trace(covariances(model).mean(0)) / 3 == pytest.approx(within.item(), rel=0.02)


@pytest.mark.parametrize("kind", FAMILIES)
def test_no_variance_falls_below_the_floor(kind):
    """Points that repeat: without a floor the likelihood has no maximum."""
    x = standardised(torch.tensor([[0.0, 0.0], [1.0, 1.0], [5.0, 0.0]]).repeat(20, 1))
    model, guide = load("gmm")(2, components=3, covariance=FAMILIES[kind], floor=0.05)
    fit(model, guide, x, epochs=200, batch_size=None, lr=0.05)
    assert np.linalg.eigvalsh(covariances(model)).min() >= 0.05 - 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "diag"])
def test_svi_on_digits_reaches_em_from_the_same_start_and_floor(kind, seed):
    """Within 0.1 nat per training point of scikit-learn's EM run to convergence, or better; and within 0.3 of exact EM."""
    x = pyrovae.load_data("digits").train
    model, guide = load("gmm")(64, components=10, covariance=FAMILIES[kind], floor=1e-3)
    torch.manual_seed(seed)
    model.initialise(x)
    em = as_sklearn(model, kind, reg_covar=1e-3, max_iter=1000, tol=1e-6).fit(x.double().numpy())
    exact = copy.deepcopy(model).double()
    pyrovae.EM(steps=1000, tol=1e-6)(exact, x.double())
    recipe = load("gmm").recipe
    fit(model, guide, x, epochs=recipe["steps"], batch_size=recipe["batch_size"], lr=recipe["lr"], seed=seed)
    reached = model.log_prob(x).mean().item()
    assert reached > em.score(x.double().numpy()) - 0.1
    assert reached > exact.log_prob(x.double()).mean().item() - 0.3  # the harder judge: the maximum under the floor


def scaled_points(count=200, dim=5):
    """Correlated, of unlike units, and far wider than any floor that is used with them."""
    x = (
        torch.randn(count, dim).double() @ torch.randn(dim, dim).double()
        + 3 * torch.eye(dim)[torch.arange(count) % dim]
    )
    return x * torch.tensor([1.0, 30.0, 0.1, 1.0, 0.5]).double()


@pytest.mark.parametrize("kind", FAMILIES)
def test_em_step_is_scikit_learns_where_no_variance_is_at_the_floor(kind, seed):
    """From one start, in one step, and after it in two more: weights, means, covariances and log p(x), to rounding."""
    torch.manual_seed(seed)
    x = scaled_points()
    model, _ = load("gmm")(5, components=3, covariance=FAMILIES[kind], floor=1e-9)
    model.double().initialise(x)
    for steps in (1, 2):
        em = as_sklearn(model, kind, reg_covar=0.0, max_iter=steps, tol=0.0)
        with pytest.warns(ConvergenceWarning):
            em.fit(x.numpy())
        for _ in range(steps):
            before = model.em_step(x).item()
        assert before == pytest.approx(em.lower_bound_, abs=1e-9)
        np.testing.assert_allclose(model.logits.detach().exp().numpy(), em.weights_, rtol=1e-8)
        np.testing.assert_allclose(model.components.family().mean.detach().numpy(), em.means_, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(covariances(model), dense_of(em), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("kind", FAMILIES)
def test_em_is_monotone_with_variances_at_the_floor(kind):
    """On digits a third of the pixels hardly vary. scikit-learn adds its reg_covar to every variance, and is not monotone here.
    A floor leaves variances above it alone. So from where scikit-learn ends, a step is uphill."""
    x = standardised(pyrovae.load_data("digits").train.double())
    model, _ = load("gmm")(64, components=10, covariance=FAMILIES[kind], floor=1e-3)
    model.double().initialise(x)
    em = as_sklearn(model, kind, reg_covar=1e-3, max_iter=60, tol=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        em.fit(x.numpy())
    trace = [model.em_step(x).item() for _ in range(120)]
    assert min(np.diff(trace)) > -1e-9
    assert trace[-1] == pytest.approx(model.log_prob(x).mean().item(), abs=1e-2)
    assert np.linalg.eigvalsh(covariances(model)).min() > 1e-3 * (1 - 1e-9)
    if kind != "full":  # there the two may climb to different maxima
        assert trace[-1] > em.score(x.numpy()) - 1e-6
    with torch.no_grad():
        q = torch.from_numpy(em.predict_proba(x.numpy()))
        model.components.expected_m_step(x, q)
        model.logits.copy_(q.mean(0).log())
    assert model.log_prob(x).mean().item() > em.score(x.numpy())


@pytest.mark.parametrize("kind", FAMILIES)
def test_em_step_is_the_best_under_the_floor(kind):
    """No neighbour of the M-step's answer that keeps the floor has a higher ELBO: 2,000 random ones, in double precision."""
    torch.manual_seed(0)
    x = torch.randn(80, 3).double()
    x[:, 1] = x[:, 0] + 0.05 * x[:, 1]
    x = standardised(x)
    floor = 0.005 if kind in ("full", "tied") else 1.2  # one component's own variances are 1
    model, _ = load("gmm")(3, components=1, covariance=FAMILIES[kind], floor=floor)
    model.double().initialise(x)
    model.em_step(x)
    best = model.log_prob(x).mean().item()
    loc, sigma = model.components.family().mean.detach()[0], torch.as_tensor(covariances(model)[0])
    for _ in range(2000):
        change = torch.randn(3, 3).double() * 0.1 * sigma.diagonal().sqrt()
        if kind in ("diag", "spherical"):
            change = torch.diag(change.diagonal() if kind == "diag" else change[0, 0].expand(3))
        near = sigma + (
            change @ change.mT
            if torch.rand(()) < 0.5
            else 0.1 * (change + change.mT) * sigma.diagonal().sqrt()[:, None]
        )
        near = (near + near.mT) / 2
        values, vectors = torch.linalg.eigh(near)
        near = vectors @ torch.diag(values.clamp(min=floor)) @ vectors.mT
        if kind == "spherical":
            near = near.diagonal().mean() * torch.eye(3).double()
        moved = loc + 0.1 * torch.randn(3).double() * sigma.diagonal().sqrt()
        assert torch.distributions.MultivariateNormal(moved, near).log_prob(x).mean().item() < best + 1e-6


@pytest.mark.parametrize("kind", FAMILIES)
def test_em_step_does_not_depend_on_its_chunks(kind, monkeypatch):
    torch.manual_seed(0)
    x = scaled_points(101)
    whole, _ = started(kind, x)
    parts = copy.deepcopy(whole)
    first = whole.em_step(x)
    monkeypatch.setattr(importlib.import_module("pyrovae.models.gmm"), "NUMBERS", 7 * 4 * 5)  # 7 points
    torch.testing.assert_close(parts.em_step(x), first, rtol=1e-12, atol=0)
    torch.testing.assert_close(parts.log_prob(x), whole.log_prob(x), rtol=1e-9, atol=1e-9)


def test_a_component_without_points_stays_and_does_no_harm():
    x = torch.randn(50, 2).double()
    model, _ = load("gmm")(2, components=2)
    model.double().initialise(x)
    model.components.m_step(
        torch.tensor([[0.0, 0.0], [1e6, 1e6]]).double(), torch.ones(2).double(), torch.eye(2).double().repeat(2, 1, 1)
    )
    trace = [model.em_step(x).item() for _ in range(3)]
    assert min(np.diff(trace)) > -1e-9
    assert model.logits.softmax(-1)[1].item() < 1e-100
    torch.testing.assert_close(model.components.family().mean[1].detach(), torch.full((2,), 1e6).double())


def test_no_factor_breaks_the_floor(seed):
    """Whatever the parameters are, not only where training leads: no eigenvalue of Σ below the floor."""
    torch.manual_seed(seed)
    for kind in (pyrovae.likelihoods.Full, pyrovae.likelihoods.Tied):
        components = kind(4, 12, 0.05).double()
        for size in (0.01, 1.0, 5.0):
            with torch.no_grad():
                components.packed.normal_().mul_(size)
                components.variances.exponential_().add_(0.05)
                components.axes.copy_(torch.linalg.qr(torch.randn_like(components.axes))[0])
                smallest = 1 / torch.linalg.matrix_norm(components.family().factor, ord=2) ** 2
            assert (smallest >= 0.05 * (1 - 1e-9)).all()


def test_draws_have_the_mixtures_moments(seed):
    torch.manual_seed(seed)
    model, _ = started("full", torch.randn(100, 3).double() @ torch.randn(3, 3).double(), components=3)
    with torch.no_grad():
        z = torch.distributions.Categorical(logits=model.logits).sample((40_000,))
        draws = model.components(z).sample()
        weight, mean, sigma = (
            model.logits.softmax(-1),
            model.components.family().mean,
            torch.as_tensor(covariances(model)),
        )
        centre = weight @ mean
        between = torch.einsum("k,ki,kj->ij", weight, mean - centre, mean - centre)
        covariance = between + torch.einsum("k,kij->ij", weight, sigma)
    error = (covariance.diagonal() / 40_000).sqrt()
    assert ((draws.mean(0) - centre).abs() < 6 * error).all()
    spread = (draws - centre).square().std(0) / 40_000**0.5
    assert ((draws.var(0) - covariance.diagonal()).abs() < 6 * spread).all()


def test_amortised_guide_closes_its_gap():
    torch.manual_seed(0)
    x = torch.cat([torch.randn(60, 2) + offset for offset in (-3.0, 3.0)])
    model, guide = load("gmm")(2, components=2, guide=pyrovae.guides.AmortisedCategorical)
    before = pyrovae.evaluate(model, guide, x, num_samples=200)
    fit(model, guide, x, epochs=300, batch_size=None, lr=0.01)
    after = pyrovae.evaluate(model, guide, x, num_samples=200)
    assert before.mean_gap.value > 0.2
    assert -1e-6 < after.mean_gap.value < 0.02


def test_fewer_points_than_components():
    with pytest.raises(InvalidInputError, match="10 components need at least as many different points; there are 7"):
        fit(*load("gmm")(3), torch.rand(7, 3))


def test_fewer_different_points_than_components():
    with pytest.raises(InvalidInputError, match="4 components need at least as many different points; there are 2"):
        fit(*load("gmm")(3, components=4), torch.eye(3)[:2].repeat(10, 1))
