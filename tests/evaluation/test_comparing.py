"""compare(): paired differences against numpy, and who may not stand beside whom."""

import io
import json
import math
import zlib
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from small_pairs import located

import pyrovae
from pyrovae import Comparison, InvalidInputError, compare, evaluate
from pyrovae.errors import NonFiniteError, RunError
from pyrovae.evaluation.comparing import score_pairs
from pyrovae.plots import comparison as plots
from pyrovae.tables.comparison import WIDTH, as_text, show
from pyrovae.utils.random import derived_seed


def coin(x):
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Bernoulli(torch.full((1,), 0.5)).to_event(1), obs=x)


CARD = {
    "data": "toy", "split": "-", "split_seed": 0, "transform": "as given", "base_measure": "Lebesgue on R^1", "seed": 0,
    "num_samples": 500, "tolerance": None, "dtype": "float32", "device": "cpu", "pyrovae": "0", "torch": "0", "pyro": "0", "python": "3",
}  # fmt: skip


def test_differences_are_paired(seed):
    x = torch.linspace(-1, 2, 40)[:, None]
    comparison = compare({"near": located(0.5), "far": located(3.0)}, x, num_samples=500, seed=seed)
    near, far = comparison.evidence["near"], comparison.evidence["far"]
    pointwise = (far.log_likelihood - near.log_likelihood).double().numpy()
    value, mc_se, data_se = comparison.difference("far", "near")
    assert comparison.best == "near"
    assert value == pytest.approx(pointwise.mean())
    assert data_se == pytest.approx(pointwise.std(ddof=1) / math.sqrt(40))
    se = np.concatenate([near.log_likelihood_se.numpy(), far.log_likelihood_se.numpy()])
    assert mc_se == pytest.approx(math.sqrt((se**2).sum()) / 40, rel=1e-5)
    exact = (dist.Normal(3.0, 2**0.5).log_prob(x) - dist.Normal(0.5, 2**0.5).log_prob(x)).mean().item()
    assert abs(value - exact) < 6 * mc_se


def test_everything_as_json_without_nan():
    content = compare({"one": located(0.0)}, torch.zeros(1, 1), num_samples=1).to_dict()
    row = json.loads(json.dumps(content, allow_nan=False))["models"][0]
    assert row["log_likelihood_mc_se"] is None  # one sample has no error
    assert row["log_likelihood_data_se"] is None  # nor has one point
    assert row["exact_log_likelihood"] is None


def test_probabilities_and_densities_are_not_compared():
    with pytest.raises(InvalidInputError, match="a density .* and coin a probability .*no common unit"):
        compare({"normal": located(0.0), "coin": (coin, lambda x: None)}, torch.ones(4, 1))


def test_different_points_are_not_compared():
    found = {name: evaluate(*located(0.0), torch.rand(4, 1), 10) for name in ("a", "b")}
    with pytest.raises(InvalidInputError, match="a and b were scored on different points"):
        Comparison(found)


def test_pairs_that_share_a_parameter_are_not_compared():
    def build():
        def model(x):
            loc = pyro.param("loc", torch.zeros(1))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

        return model, lambda x: None

    with pytest.raises(InvalidInputError, match="a and b share a parameter"):
        compare({"a": build(), "b": build()}, torch.ones(4, 1))


def test_one_model_under_two_guides_is_compared():
    model, narrow = located(0.5)

    class Wide(pyrovae.Module):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(x / 2, 3.0).to_event(1))

    comparison = compare({"narrow": (model, narrow), "wide": (model, Wide())}, torch.rand(5, 1), num_samples=300)
    assert comparison.evidence["wide"].mean_gap.value > comparison.evidence["narrow"].mean_gap.value + 0.1


def test_likelihoods_of_different_things_are_not_compared():
    def half(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(torch.zeros(1), 1.0).to_event(1), obs=x[:, :1])

    def whole(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1), obs=x)

    with pytest.raises(InvalidInputError, match="half observes 1 numbers of each point and whole 2"):
        compare({"half": (half, lambda x: None), "whole": (whole, lambda x: None)}, torch.ones(4, 2))


@pytest.mark.slow
def test_monte_carlo_errors_of_two_are_independent():
    """From one seed a pair and its copy would draw the same latents, and their difference have no error at all."""
    pairs = {"one": located(0.5), "copy": located(0.5)}
    draws = [
        compare(pairs, torch.zeros(1, 1), num_samples=50, seed=2 * k).difference("one", "copy") for k in range(200)
    ]
    z = torch.tensor([d.value / d.mc_se for d in draws])
    assert 0.6 < z.var() < 1.6  # 1 for independent draws of the right error


def test_each_pair_is_trained_before_its_turn_and_failures_are_kept():
    """A pair draws from a seed of its own name, also after one that failed."""
    order, x = [], torch.zeros(3, 1)
    result = pyrovae.FitResult(losses=[1.0])

    def train(name):
        order.append(name)
        if name == "wild":
            raise NonFiniteError("Training stopped at step 3.")
        return result

    pairs = {"first": located(0.5), "wild": located(1.0), "last": located(2.0)}
    comparison = score_pairs(pairs, x, 20, seed=7, train=train, keep_failures=True)
    assert order == ["first", "wild", "last"]
    assert list(comparison.evidence) == ["first", "last"]
    assert comparison.failed == {"wild": "Training stopped at step 3."}
    assert comparison.fits == {"first": result, "last": result}
    alone = pyrovae.evaluate(*pairs["last"], x, 20, seed=derived_seed(7, zlib.crc32(b"last")))
    assert torch.equal(comparison.evidence["last"].log_likelihood, alone.log_likelihood)
    with pytest.raises(NonFiniteError):
        score_pairs(pairs, x, 20, train=train)
    with pytest.raises(NonFiniteError):
        score_pairs({"wild": located(1.0)}, x, 20, train=train, keep_failures=True)
    with pytest.raises(RunError, match="Every pair failed, wild: Training stopped at step 3.; other: no density"):
        score_pairs({"wild": located(1.0), "other": located(1.0)}, x, 20, train=_fail_each(train), keep_failures=True)


def _fail_each(train):
    def train_or_refuse(name):
        if name == "other":
            raise InvalidInputError("no density")
        return train(name)

    return train_or_refuse


def test_a_bug_is_not_one_of_the_failures():
    def train(name):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        score_pairs({"one": located(0.5), "two": located(0.5)}, torch.zeros(3, 1), 5, train=train, keep_failures=True)


def test_nothing_to_compare():
    with pytest.raises(InvalidInputError, match="nothing to compare"):
        compare({}, torch.ones(4, 1))


def test_table_shows_the_numbers_of_the_comparison():
    comparison = compare(
        {"near": located(0.5), "far": located(3.0)}, torch.linspace(-1, 2, 40)[:, None], num_samples=500
    )
    text = as_text(comparison, CARD)
    near = next(line for line in text.splitlines() if "near" in line)
    estimate = comparison.evidence["near"].mean_log_likelihood
    assert f"{estimate.value:.3f} ± {estimate.mc_se:.3f} ± {estimate.data_se:.3f}" in near
    assert f"far − near: {comparison.difference('far', 'near').value:.3f}" in text
    assert max(map(cell_len, text.splitlines())) <= WIDTH


def test_narrow_terminals_get_a_column_per_model():
    comparison = compare(
        {"near": located(0.5), "far": located(3.0)}, torch.linspace(-1, 2, 40)[:, None], num_samples=500
    )
    page = io.StringIO()
    show(comparison, CARD, Console(file=page, width=80))
    lines = page.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert "…" not in page.getvalue()
    elbo = next(line for line in lines if line.strip().startswith("ELBO"))
    assert f"{comparison.evidence['near'].mean_elbo.value:.3f}" in elbo
    assert f"{comparison.evidence['far'].mean_elbo.value:.3f}" in elbo


def test_long_rows_fold_their_latents_before_they_become_columns():
    """Several latents stand below one another where they would make the table too wide for a page."""
    sizes = {"a": 100, "b": 101, "c": 102, "d": 103, "e": 104}  # of one size they would be counted: 5 × R^100

    def model(x):
        with pyro.plate("data", len(x)):
            for name, size in sizes.items():
                z = pyro.sample(name, dist.Normal(torch.zeros(size), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z[..., :1], 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            for name, size in sizes.items():
                pyro.sample(name, dist.Normal(torch.zeros(size), 1.0).to_event(1))

    text = as_text(compare({"a_model_of_a_long_name": (model, guide)}, torch.zeros(3, 1), num_samples=200), CARD)
    lines = text.splitlines()
    assert max(map(cell_len, lines)) <= WIDTH
    first = next(place for place, line in enumerate(lines) if line.startswith(" a_model_of_a_long_name  R^100"))
    assert lines[first + 1].strip().startswith("R^101") or "R^101" in lines[first]
    assert all(text.count(f"R^{size}") == 1 for size in sizes.values())
    assert not all(f"R^{size}" in lines[first] for size in sizes.values())


def test_names_stand_beside_their_samples_whole():
    draws = {name: torch.rand(24, 64) for name in ("hierarchical_vae", "a_model_of_a_long_name")}
    figure = plots.samples_beside_data(torch.rand(24, 64), draws, (8, 8))
    figure.draw_without_rendering()
    for axes in figure.axes:
        box = axes.yaxis.label.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= axes.get_window_extent().x0


def test_a_number_that_is_not_to_be_trusted_is_said_to_be_none():
    def narrow(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x + 6.0, 0.3).to_event(1))

    model = located(0.0)[0]
    comparison = compare({"toy": (model, narrow), "sound": located(0.0)}, torch.zeros(30, 1), num_samples=200)
    text = as_text(comparison, CARD)
    assert "toy: Do not trust log p̂(x): k̂ is above 0.57 at 30 of 30 points" in text
    assert "sound: Trust" not in text
    row = next(line for line in text.splitlines() if line.startswith(" toy"))
    assert " 100% " in row
    alone = as_text(compare({"toy": located(0.0)}, torch.zeros(30, 1), num_samples=200), CARD)
    assert "toy: Trust log p̂(x): k̂ is below 0.57 at every point" in alone


def test_the_row_of_a_model_says_how_far_it_is_to_be_trusted():
    comparison = compare({"toy": located(0.0)}, torch.linspace(-1, 1, 30)[:, None], num_samples=200)
    evidence = comparison.evidence["toy"]
    [row] = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))["models"]
    assert row["high_pareto_k_fraction"] == float((evidence.pareto_k >= row["pareto_k_threshold"]).double().mean())
    assert row["log_likelihood_jackknife"] == pytest.approx(float(evidence.log_likelihood_jackknife.mean()))
    assert row["reliability_message"] == evidence.reliability_message
    assert [point["num_samples"] for point in row["bound_curve"]] == [1, 10, 100, 200]
    assert row["bound_curve"][0]["value"] == row["elbo"]
    assert row["bound_curve"][-1]["value"] == row["log_likelihood"]
    assert row["bound_curve"][2]["mc_se"] == pytest.approx(float(evidence.bound_curve.se[2].square().sum().sqrt()) / 30)


@pytest.mark.parametrize("pairs", [[], [("a", "b")], {"a": 3}, {"a": (1, 2, 3)}])
def test_what_is_no_pair_is_refused(pairs):
    with pytest.raises(pyrovae.InvalidInputError, match=r"give (at least one pair|\(model, guide\))"):
        pyrovae.compare(pairs, torch.zeros(3, 2))


@pytest.mark.parametrize(
    "name", ["log_weights", "sample", "evaluate", "fit", "ais", "bdmc", "diagnose", "gap", "refine"]
)
def test_numbers_below_the_least_are_refused(name):
    model, guide = pyrovae.load("ppca")(3, latent=1)
    x = torch.randn(5, 3)
    calls = {
        "log_weights": lambda: pyrovae.log_weights(model, guide, x, num_samples=0),
        "sample": lambda: pyrovae.sample(model, -1, x),
        "evaluate": lambda: pyrovae.evaluate(model, guide, x, seed=-1),
        "fit": lambda: pyrovae.fit(model, guide, x, epochs=1, seed=-1),
    }
    for other in ("ais", "bdmc", "diagnose", "gap", "refine"):
        calls[other] = partial(getattr(pyrovae, other), model, guide, x, seed=-1)
    with pytest.raises(pyrovae.InvalidInputError, match="give a whole number, at least"):
        calls[name]()


def test_seeds_may_be_numpys():
    model, guide = pyrovae.load("ppca")(3, latent=np.int64(1))
    x = torch.randn(5, 3)
    found = pyrovae.ais(model, guide, x, num_chains=2, num_temperatures=3, seed=np.int64(4))
    assert torch.equal(found.log_w, pyrovae.ais(model, guide, x, num_chains=2, num_temperatures=3, seed=4).log_w)
    assert json.loads(json.dumps(found.metadata))["seed"] == 4
