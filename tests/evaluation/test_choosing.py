"""choose(): against scikit-learn's example, closed forms, and pairs that are trained by hand."""

import json
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pca_or_factor_analysis import DIM, POINTS, example_data
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.model_selection import KFold, cross_val_score

import pyrovae
from pyrovae import InvalidInputError, choose
from pyrovae.errors import RunError
from pyrovae.evaluation.choice import Candidate, Choice
from pyrovae.evaluation.splits import random_split
from pyrovae.statistics.estimate import mean_over_points

EXAMPLE = [5, 10, 15, 20]  # of the example's numbers of components, those above 0
BY_EM = {"epochs": 0, "init": pyrovae.EM(500, 1e-6)}


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def closed_form_ppca(train: np.ndarray, x: np.ndarray, latent: int) -> np.ndarray:
    """log p(x_n) under the PPCA of maximum likelihood for `train`: an eigenvalue decomposition, divisor N."""
    values, vectors = np.linalg.eigh(np.cov(train.T, bias=True))
    noise = values[:-latent].mean()
    W = vectors[:, -latent:] * np.sqrt(values[-latent:] - noise)
    return multivariate_normal(train.mean(0), W @ W.T + noise * np.eye(DIM)).logpdf(x)


def test_ppca_is_chosen_as_in_scikit_learns_example(double) -> None:
    """Noise of one size: 5 latents, by cross-validation and by Minka. The BIC is its definition, and asks for fewer. The
    published −37.3523 is of covariances with divisor N − 1, ours of maximum likelihood."""
    x, _ = example_data()
    training = {"epochs": 0, "init": pyrovae.EM(2000, 1e-8)}
    choice = choose(pyrovae.load("ppca"), {"latent": [2, 5, 10]}, torch.as_tensor(x), folds=KFold(5), training=training)
    assert (choice.best, choice.best_set, choice.lowest_bic, choice.minka) == ("5", ["5"], "2", 5)
    for latent in (2, 5, 10):
        candidate, exact = choice.candidates[str(latent)], np.empty(POINTS)
        for rows, held in KFold(5).split(x):
            exact[held] = closed_form_ppca(x[rows], x[held], latent)
        np.testing.assert_allclose(candidate.log_likelihood.numpy(), exact, atol=0.05)  # EM ends at 1e-8 nats a step
        assert candidate.mean_log_likelihood.value == pytest.approx(exact.mean(), abs=5e-4)
        whole = closed_form_ppca(x, x, latent).sum()
        free = DIM * latent - latent * (latent - 1) // 2 + 1 + DIM
        assert candidate.bic == pytest.approx(-2 * whole + free * math.log(POINTS), abs=1e-2)
    published = cross_val_score(PCA(5, svd_solver="full"), x, cv=5).mean()
    assert published == pytest.approx(-37.3523, abs=5e-5)
    assert choice.candidates["5"].mean_log_likelihood.value == pytest.approx(published, abs=2e-3)
    sentence = "latent=5 has the highest held-out log p(x). Every other value is worse, at a confidence of 95%. "
    assert choice.message.startswith(sentence + "The BIC chooses latent=2. Minka's approximation")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data", "latent", "published", "minka"),
    [
        ("ppca", 0, "5", -37.3523, 5), ("factor_analysis", 0, "5", -37.3836, None),
        ("ppca", 1, "20", -39.0243, 18), ("factor_analysis", 1, "5", -38.7636, None),
    ],
)  # fmt: skip
def test_scikit_learns_example(name, data, latent, published, minka, double) -> None:
    """5, 5, 20 and 5 as published. scikit-learn's factor analysis stops early, and its singular values are approximate. Ours is
    held to one of exact singular values that goes on to the maximum."""
    x = example_data()[data]
    kind = PCA(int(latent), svd_solver="full") if name == "ppca" else FactorAnalysis(int(latent))
    assert cross_val_score(kind, x, cv=5).mean() == pytest.approx(published, abs=1e-4)
    choice = choose(pyrovae.load(name), {"latent": EXAMPLE}, torch.as_tensor(x), folds=KFold(5), training=BY_EM)
    assert choice.best == latent
    assert choice.minka == minka
    converged = kind if name == "ppca" else FactorAnalysis(int(latent), tol=1e-6, max_iter=20_000, svd_method="lapack")
    known = cross_val_score(converged, x, cv=5).mean()
    # PCA's divisor is N − 1, and EM to 1e-6 nats a step is not at the end
    assert choice.candidates[latent].mean_log_likelihood.value == pytest.approx(known, abs=5e-3)


def test_held_out_and_training_numbers_are_those_of_pairs_trained_by_hand() -> None:
    x = torch.randn(60, 3) * torch.tensor([1.0, 2.0, 3.0])
    choice = choose(pyrovae.load("gmm"), {"components": [1, 2]}, x, seed=4, training={"epochs": 3, "lr": 0.01})
    [(rows, held)] = random_split(60, 0.2, 4)
    for components in (1, 2):
        torch.manual_seed(4)
        model, guide = pyrovae.load("gmm")(3, components=components)
        pyrovae.fit(model, guide, x[rows], epochs=3, lr=0.01, seed=4)
        candidate = choice.candidates[str(components)]
        exact = model.log_prob(x[held]).detach().double()
        np.testing.assert_allclose(candidate.log_likelihood, exact, atol=1e-5)
        trained = model.log_prob(x[rows]).detach().double()
        assert candidate.train_log_likelihood.value == pytest.approx(float(trained.mean()), abs=1e-5)
        free = components * (3 + 6) + components - 1
        assert candidate.num_free_parameters == free
        assert candidate.bic == pytest.approx(float(-2 * trained.sum()) + free * np.log(48), abs=1e-3)
    difference = choice.difference("1", "2")
    one, two = (choice.candidates[name].log_likelihood for name in ("1", "2"))
    assert difference.value == pytest.approx(float((one - two).mean()))
    assert difference.data_se == pytest.approx(float((one - two).std()) / 12**0.5)
    content = json.loads(json.dumps(choice.to_dict(), allow_nan=False))
    assert content["candidates"][0]["difference"] in (0.0, pytest.approx(difference.value))
    assert content["num_train"] == 48


def test_latent_sizes_that_tie_are_said_to_tie() -> None:
    """Points without structure: no VAE can be better for a latent more."""
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))

    def build(dim, latent):
        return pyrovae.load("vae")(dim, latent=latent, hidden=(4,))

    training = {"epochs": 60, "batch_size": 240, "lr": 1e-2}
    choice = choose(build, {"latent": [1, 2, 3]}, x, 200, training=training)
    assert choice.best_set == ["1", "2", "3"]
    assert "No other value can be told from it, at a confidence of 95%: it is a tie." in choice.message
    assert "The smallest of the best set is latent=1." in choice.message
    assert "log p̂(x) is only a lower bound at some points: 1 (" in choice.message
    assert choice.lowest_bic is None
    assert choice.minka is None
    assert choice.candidates["1"].method == "importance_sampling"
    assert choice.candidates["1"].mean_log_likelihood.mc_se > 0


def made_up(values: dict[object, float]) -> Choice:
    """A choice among values whose held-out log p(x) is the same at all points, with a BIC that asks for the first."""
    candidates = {}
    for place, (value, level) in enumerate(values.items()):
        log_p = torch.full((20,), level)
        candidates[str(value)] = Candidate(
            value, log_p, 0 * log_p, 0 * log_p, "exact", mean_over_points(log_p, 0 * log_p), 1, 1, float(place), 0.0
        )
    return Choice("option", candidates, 20)


def test_a_best_value_at_an_end_of_the_numbers_asks_for_more() -> None:
    """In whatever order they are given; words have no ends, and one value has nothing beside it."""
    end = "The best value is at an end of the range"
    assert end in made_up({2: -1.0, 4: 0.0}).message
    assert end in made_up({2: -1.0, 8: 0.0, 4: -1.0}).message
    assert end not in made_up({4: 0.0, 2: -1.0, 8: -1.0}).message
    assert end in made_up({np.int64(2): -1.0, np.int64(4): 0.0}).message
    assert end not in made_up({"full": 0.0, "diag": -1.0, "tied": -1.0}).message
    assert "The BIC chooses option=full." in made_up({"full": 0.0, "diag": -1.0}).message
    assert made_up({2: 0.0}).message == "option=2 is the only value that was scored."


def test_candidates_share_nothing_in_pyros_store() -> None:
    """Pairs written as functions name the same parameters, each from its own start; the caller's store is left alone."""
    pyro.param("loc", torch.tensor(7.0))

    def build(dim, start):
        def model(x):
            loc = pyro.param("loc", torch.full((1,), start))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(loc.expand(dim), 1.0).to_event(1), obs=x)

        return model, lambda x: None

    x = torch.zeros(20, 1)
    choice = choose(build, {"start": [0.0, 1.0, 2.0]}, x, num_samples=1, training={"epochs": 1, "lr": 1e-6})
    for start in (0.0, 1.0, 2.0):
        exact = float(dist.Normal(start, 1.0).log_prob(torch.tensor(0.0)))
        assert choice.candidates[str(start)].mean_log_likelihood.value == pytest.approx(exact, abs=1e-4)
    assert pyro.param("loc").item() == 7.0
    assert choice.best == "0.0"


def test_a_value_that_fails_leaves_the_others() -> None:
    x = torch.randn(20, 2)
    choice = choose(pyrovae.load("gmm"), {"components": [1, 30]}, x, training={"epochs": 1})
    assert list(choice.candidates) == ["1"]
    assert "30 components need at least as many different points" in choice.failed["30"]
    assert choice.message.startswith("components=1 is the only value that was scored.")
    with pytest.raises(RunError, match="Every value failed, 30: 30 components need"):
        choose(pyrovae.load("gmm"), {"components": [30]}, x, training={"epochs": 1})


def test_what_cannot_be_chosen_is_refused_before_anything_is_trained(monkeypatch) -> None:
    monkeypatch.setattr(pyrovae.evaluation.candidates, "fit", lambda *_: pytest.fail("it was trained"))
    x, gmm = torch.randn(20, 2), pyrovae.load("gmm")
    for over, message in [
        ({}, "over has 0 options: give one"),
        ({"components": [1], "floor": [1]}, "over has 2 options"),
        ({"components": []}, "components has no values"),
        ({"components": [2, 2]}, "components has a value twice: 2, 2"),
        ({"componets": [2]}, "gmm has no option 'componets'"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            choose(gmm, over, x)
    for settings, message in [
        ({"level": 1.0}, "level is 1.0: give a probability"),
        ({"tolerance": -1.0}, "tolerance is -1.0"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"training": {"lr": -1.0}}, "lr is -1.0: give a finite number above 0"),
        ({"training": {"epoch": 3}}, r"training has 'epoch' \(did you mean 'epochs'\?\), which is no argument of fit"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            choose(gmm, {"components": [1]}, x, **settings)
    with pytest.raises(InvalidInputError, match="no log p"):
        choose(pyrovae.load("autoencoder"), {"latent": [1]}, x)
