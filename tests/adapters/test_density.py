"""Density under scikit-learn: its own checks, and the numbers against closed forms."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import pyrovae
from pyrovae import Density, InvalidInputError
from pyrovae.adapters.density import EXPECTED_FAILED_CHECKS

X = load_iris().data


@pytest.mark.parametrize(
    ("density", "expected"),
    [
        (Density(), {}),
        (Density("ppca", latent=1, epochs=1), {}),
        (Density("gmm", components=2, epochs=1), {}),
        pytest.param(Density("vae", latent=1, epochs=1, num_samples=5), EXPECTED_FAILED_CHECKS, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "model", ""),
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks(density: Density, expected: dict[str, str]) -> None:
    """`check_estimator` raises at the first that fails. Those that are expected to fail do fail."""
    results = check_estimator(density, expected_failed_checks=expected, on_skip=None)
    assert {result["check_name"] for result in results if result["status"] == "xfail"} == set(expected)
    assert sum(result["status"] == "passed" for result in results) > 35


def test_the_gaussian_is_that_of_maximum_likelihood() -> None:
    density = Density().fit(X)
    expected = multivariate_normal(X.mean(0), np.cov(X.T, bias=True)).logpdf(X)
    np.testing.assert_allclose(density.score_samples(X), expected, atol=1e-6)
    assert density.score(X) == pytest.approx(expected.mean(), abs=1e-6)
    assert density.evaluate(X).method == ("exact",) * len(X)
    assert not hasattr(density, "transform")
    assert not hasattr(Density("gmm"), "transform")


def test_codes_and_reconstructions_of_ppca() -> None:
    """E[z|x] = M⁻¹Wᵀ(x − μ) with M = WᵀW + σ²I, and E[x|z] = Wz + μ: the plane of the first principal axes."""
    density = Density("ppca", latent=2, epochs=0).fit(X)
    model: Any = density.model_
    W, mu, noise = (value.detach().double().numpy() for value in (model.W, model.mu, model.noise))
    z = (X - mu) @ W @ np.linalg.inv(W.T @ W + noise * np.eye(2))
    np.testing.assert_allclose(density.transform(X), z, atol=1e-8)
    np.testing.assert_allclose(density.inverse_transform(z), z @ W.T + mu, atol=1e-8)
    axes = PCA(2).fit(X).components_
    np.testing.assert_allclose(W @ np.linalg.pinv(W), axes.T @ axes, atol=1e-5)
    assert list(density.get_feature_names_out()) == ["density0", "density1"]
    np.testing.assert_array_equal(clone(density).fit_transform(X), density.transform(X))


def test_what_is_not_exact_reaches_the_tolerance() -> None:
    """p(x) of a VAE in one latent dimension, by quadrature over z."""
    density = Density("vae", latent=1, hidden=(5,), epochs=20, tolerance=0.02).fit(X[:, :2])
    evidence, x = density.evaluate(X[:20, :2]), torch.tensor(X[:20, :2])
    assert (evidence.log_likelihood_se <= 0.02).all()
    z = torch.linspace(-8, 8, 8001, dtype=torch.float64).unsqueeze(-1)
    model: Any = density.model_
    with torch.no_grad():
        log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z) + torch.stack(
            [model.decode(z).log_prob(point.expand(len(z), -1)) for point in x]
        ).unsqueeze(-1)
    exact = (log_p.squeeze(-1).logsumexp(1) + np.log(16 / 8000)).numpy()
    np.testing.assert_allclose(density.score_samples(X[:20, :2]), exact, atol=0.1)
    assert abs((density.score_samples(X[:20, :2]) - exact).mean()) < 0.03


def test_draws_have_the_moments_of_the_data() -> None:
    density = Density().fit(X)
    draws = density.sample(4000, random_state=1)
    np.testing.assert_allclose(draws.mean(0), X.mean(0), atol=5 * (X.std(0) / 4000**0.5).max())
    np.testing.assert_allclose(np.cov(draws.T), np.cov(X.T), atol=0.3)
    np.testing.assert_array_equal(density.sample(3, random_state=1), density.sample(3, random_state=1))
    assert not np.array_equal(density.sample(3), density.sample(3))


def test_parameters_are_those_of_the_estimator_and_of_the_pair() -> None:
    density = Density("vae", latent=3, guide="FullCovariance", lr=1e-2)
    assert density.get_params()["latent"] == 3
    other = clone(density).set_params(latent=1, hidden=(4,), lr=1e-3)
    assert (other.get_params()["latent"], other.get_params()["hidden"], other.lr) == (1, (4,), 1e-3)
    assert density.get_params()["latent"] == 3
    assert "latent=3" in repr(density)
    with pytest.raises(InvalidInputError, match="vae has no option 'latents' .did you mean 'latent'"):
        density.set_params(latents=2)
    fitted = other.set_params(epochs=1).fit(X)
    assert type(fitted.guide_).__name__ == "FullCovariance"
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).score_samples(X), fitted.score_samples(X))


def test_zeros_and_ones_get_probabilities() -> None:
    bits = (X.mean(0) < X).astype(float)
    density = Density("vae", latent=1, hidden=(4,), epochs=1, num_samples=50).fit(bits)
    assert type(density.model_.likelihood).__name__ == "Bernoulli"  # type: ignore[attr-defined]
    assert (density.score_samples(bits) < 0).all()


def test_bad_tables_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 of the 4 columns of X are constant \(column petal width"):
        Density().fit(pd.DataFrame(X, columns=load_iris().feature_names).assign(**{"petal width (cm)": 2.0}))
    with pytest.raises(ValueError, match="There is no model 'ppcaa' .did you mean 'ppca'"):
        Density("ppcaa").fit(X)


def test_cross_validation_and_a_search() -> None:
    """Scores are those of fits by hand. Two latents fit iris better than one, held out."""
    density = Density("ppca", epochs=0, latent=1)
    order = np.random.default_rng(0).permutation(len(X))
    scores = cross_val_score(density, X[order], cv=3)
    train, test = X[order][50:], X[order][:50]
    assert scores[0] == pytest.approx(clone(density).fit(train).score(test), abs=1e-9)
    search = GridSearchCV(Density("ppca", epochs=0), {"latent": [1, 3]}, cv=3).fit(X[order])
    assert search.best_params_ == {"latent": 3}
    assert search.score(X) == search.best_estimator_.score(X)


def test_in_a_pipeline() -> None:
    """After a scaling, log p(x) moves by Σ log s and by nothing else. Codes can be the features of another step."""
    frame = pd.DataFrame(X, columns=load_iris().feature_names)
    pipeline = make_pipeline(StandardScaler(), Density()).fit(frame)
    shift = np.log(X.std(0)).sum()
    np.testing.assert_allclose(pipeline.score_samples(frame) - shift, Density().fit(X).score_samples(X), atol=1e-6)
    codes = make_pipeline(Density("ppca", latent=2, epochs=0), Density()).fit(frame)
    assert np.isfinite(codes.score(frame))
    assert list(Density(epochs=0).fit(frame).feature_names_in_) == load_iris().feature_names


def test_the_precision_is_that_of_the_table() -> None:
    for dtype in (np.float32, np.float64):
        density = Density("ppca", latent=1, epochs=0).fit(X.astype(dtype))
        assert density.transform(X.astype(dtype)).dtype == density.sample(1).dtype == dtype
    assert pyrovae.Density is Density
