"""The mixture's exact identities, and SVI against scikit-learn's EM from the same start and floor."""

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

import pyrovae
from pyrovae import Refusal, fit, load, log_weights

FAMILIES = {
    "full": pyrovae.Full,
    "diag": pyrovae.Diagonal,
    "spherical": pyrovae.Spherical,
    "tied": pyrovae.Tied,
}


def covariances(model):
    """Σ_k as dense matrices, (K, D, D)."""
    with torch.no_grad():
        family = model.components.family()
        if hasattr(family, "covariance_matrix"):
            return family.covariance_matrix.numpy()
        return torch.diag_embed(family.variance).numpy()


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
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [5.0, 0.0]]).repeat(20, 1)
    model, guide = load("gmm")(2, components=3, covariance=FAMILIES[kind], floor=0.05)
    fit(model, guide, x, epochs=200, batch_size=None, lr=0.05)
    assert np.linalg.eigvalsh(covariances(model)).min() >= 0.05 - 1e-6


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_svi_on_digits_reaches_em_from_the_same_start_and_floor(kind, seed):
    """Within 0.1 nat per training point of EM run to convergence, or better."""
    x = pyrovae.load_data("digits").train
    model, guide = load("gmm")(64, components=10, covariance=FAMILIES[kind], floor=1e-3)
    torch.manual_seed(seed)
    model.initialise(x)
    em = as_sklearn(model, kind, reg_covar=1e-3, max_iter=1000, tol=1e-6).fit(x.double().numpy())
    fit(model, guide, x, epochs=150, batch_size=None, lr=2e-2, seed=seed)  # the pair's recipe
    assert model.log_prob(x).mean().item() > em.score(x.double().numpy()) - 0.1


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
    model, guide = load("gmm")(2, components=2, guide=pyrovae.AmortisedCategorical)
    before = pyrovae.evaluate(model, guide, x, samples=200)
    fit(model, guide, x, epochs=300, batch_size=None, lr=0.01)
    after = pyrovae.evaluate(model, guide, x, samples=200)
    assert before.mean_gap.value > 0.2
    assert -1e-6 < after.mean_gap.value < 0.02


def test_fewer_points_than_components():
    with pytest.raises(Refusal, match="10 components need at least as many different points; there are 7"):
        fit(*load("gmm")(3), torch.rand(7, 3))


def test_fewer_different_points_than_components():
    with pytest.raises(Refusal, match="4 components need at least as many different points; there are 2"):
        fit(*load("gmm")(3, components=4), torch.eye(3)[:2].repeat(10, 1))
