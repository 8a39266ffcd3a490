"""log p(x) does not depend on how a table was measured: its units, offsets and the order of its columns."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn import datasets

import pyrovae
from pyrovae import fit, load

EQUIVARIANT = {
    "gaussian": ("gaussian", {}),
    "full": ("gmm", {"components": 3}),
    "tied": ("gmm", {"components": 3, "covariance": pyrovae.likelihoods.Tied}),
    "diagonal": ("gmm", {"components": 3, "covariance": pyrovae.likelihoods.Diagonal}),
    "factor_analysis": ("factor_analysis", {"latent": 2}),
    "mixture_fa": ("mixture_fa", {"components": 2, "latent": 2}),
}
NATS = 1e-3


def tables(rng):
    """Tables of several kinds: correlated, clustered, skewed with a heavy tail, and real ones."""
    clusters = rng.normal(size=(240, 4)) + 4 * rng.integers(0, 3, (240, 1)) * np.array([1, -1, 0.5, 0])
    yield rng.normal(size=(240, 5)) @ rng.normal(size=(5, 5))
    yield clusters
    yield np.exp(rng.normal(size=(240, 3)) @ rng.normal(size=(3, 3)) / 2)
    yield datasets.load_iris().data
    yield datasets.load_wine().data
    yield datasets.load_breast_cancer().data


def trained(pair, x, how, dtype):
    """The model at its start, after EM, or after the training that its file recommends, all points to a step."""
    name, options = pair
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, guide = load(name)(x.shape[1], **options)
    for module in (model, guide):
        if isinstance(module, torch.nn.Module):
            module.to(dtype)
    init = "em" if how == "em" and hasattr(model, "em_step") else None
    recipe = load(name).recipe
    epochs = recipe.get("steps", 0) if how == "svi" else 0
    fit(model, guide, x.to(dtype), epochs=epochs, batch_size=None, lr=recipe.get("lr", 1e-3), init=init)
    return model


def log_p(pair, x, how, dtype):
    """log p(x) of each point, in the units of x."""
    model = trained(pair, x[::2], how, dtype)
    with torch.no_grad():
        return model.log_prob(x.to(dtype)).double()


@pytest.mark.parametrize("pair", EQUIVARIANT)
@pytest.mark.parametrize(
    ("how", "every"),
    [("start", 1), ("em", 2), ("svi", 6), *(pytest.param(how, 1, marks=pytest.mark.slow) for how in ("em", "svi"))],
)
def test_log_p_moves_by_the_log_of_the_units(pair, how, every, seed):
    """Scales to 10⁸ apart, offsets to 10⁶ standard deviations, columns in any order: the same log p(x) after the Jacobian."""
    rng = np.random.default_rng(seed)
    for raw in itertools.islice(tables(rng), 0, None, every):
        raw = raw / raw.std(0) if raw.shape[1] < 30 else raw
        order = rng.permutation(raw.shape[1])
        scale = 10 ** rng.uniform(-4, 4, raw.shape[1])
        scale[:2] = 1e-4, 1e4
        moved = (raw * scale + rng.uniform(-1e6, 1e6, raw.shape[1]) * raw.std(0) * scale)[:, order]
        expected = log_p(EQUIVARIANT[pair], torch.as_tensor(raw), how, torch.float64)
        found = log_p(EQUIVARIANT[pair], torch.as_tensor(moved), how, torch.float64) + np.log(scale).sum()
        assert (found - expected).abs().mean() < NATS


@pytest.mark.parametrize("pair", ["full", pytest.param("factor_analysis", marks=pytest.mark.slow), "mixture_fa"])
def test_single_precision_is_enough_for_scales(pair, seed):
    rng = np.random.default_rng(seed)
    raw = torch.as_tensor(rng.normal(size=(400, 5)) @ rng.normal(size=(5, 5)))
    scale = torch.tensor([1e-4, 1e-2, 1.0, 1e2, 1e4]).double()
    for how in ("em", "svi"):
        expected = log_p(EQUIVARIANT[pair], raw, how, torch.float64)
        found = log_p(EQUIVARIANT[pair], raw * scale, how, torch.float32) + scale.log().sum()
        assert (found - expected).abs().mean() < NATS


def best_ppca(x, latent):
    """The maximum of PPCA's mean log-likelihood (Tipping & Bishop 1999, eq. 3.7), from a factor of the covariance."""
    sd = x.std(0)
    values, vectors = np.linalg.eigh(np.corrcoef(x.T))
    eigenvalues = np.linalg.svd(sd[:, None] * vectors * np.sqrt(values), compute_uv=False) ** 2
    kept, noise = eigenvalues[:latent], eigenvalues[latent:].mean()
    dim = x.shape[1]
    return -0.5 * (np.log(kept).sum() + (dim - latent) * math.log(noise) + dim * (math.log(2 * math.pi) + 1))


@pytest.mark.parametrize("how", ["start", "em", pytest.param("svi", marks=pytest.mark.slow)])
@pytest.mark.parametrize("scale", [1e-3, [1, 10, 1e3, 1e5], [1, 3, 1e4, 1e8]])
@pytest.mark.parametrize("name", ["ppca", "mixture_ppca", "linear_vae"])
def test_ppca_is_at_the_maximum_of_the_raw_columns(name, scale, how):
    x = np.random.default_rng(1).normal(size=(400, 4)) * np.array(scale) + 5
    options = {"latent": 2} | ({"components": 1} if name == "mixture_ppca" else {})
    model = trained((name, options), torch.as_tensor(x), how, torch.float64)
    with torch.no_grad():
        assert model.log_prob(torch.as_tensor(x)).mean().item() == pytest.approx(best_ppca(x, 2), abs=NATS)


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-3, [1, 1, 1, 1e-3]])
def test_a_full_gaussian_is_at_the_maximum_of_the_likelihood(scale):
    """Whatever the scale, so that no model that is a part of it ends above."""
    x = torch.as_tensor(np.random.default_rng(0).normal(size=(500, 4)) * np.array(scale))
    best = -0.5 * (torch.logdet(torch.cov(x.mT, correction=0)) + 4 * (math.log(2 * math.pi) + 1)).item()
    for name, options in (("gaussian", {}), ("gmm", {"components": 1})):
        model = trained((name, options), x, "start", torch.float64)
        assert model.log_prob(x).mean().item() == pytest.approx(best, abs=1e-9)
    for name in ("ppca", "factor_analysis", "mixture_fa"):
        options = {"latent": 2} | ({"components": 1} if name == "mixture_fa" else {})
        assert trained((name, options), x, "em", torch.float64).log_prob(x).mean().item() < best


@pytest.mark.parametrize("scale", [1e-3, [1, 10, 1e3, 1e5]])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vae", {"latent": 2}),
        ("flow", {}),
        ("hierarchical_vae", {"latents": (2, 1)}),
        ("gmvae", {"latent": 2, "components": 2}),
    ],
)
def test_networks_train_in_any_units(name, options, scale, seed):
    """They see standardised columns, so that the same seed gives the same log p̂(x) after the Jacobian."""
    rng, scale = np.random.default_rng(seed), np.array(scale) * np.ones(4)
    raw = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 4))
    elbo = []
    for x in (raw, raw * scale + 3 * scale):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model, guide = load(name)(4, **options)
        x = torch.as_tensor(x).float()
        fit(model, guide, x, epochs=5, lr=5e-3)
        elbo.append(pyrovae.evaluate(model, guide, x, num_samples=20).mean_elbo.value)
    assert elbo[1] + np.log(scale).sum() == pytest.approx(elbo[0], abs=0.02)
