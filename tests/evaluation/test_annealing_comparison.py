"""compare_annealing(): the paired difference, the points it takes, and what it refuses."""

import json
import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyrovae
from pyrovae import InvalidInputError, compare_annealing, evaluate
from pyrovae.estimators.annealing import ais
from pyrovae.evaluation.annealing_comparison import check_can_anneal
from pyrovae.utils.random import random_rows


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=x)


def guide(x):
    """Much narrower than the posterior N(0.8 x, 0.2): its importance weights underestimate log p(x)."""
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x * 0.8, 0.1).to_event(1))


@pytest.fixture(scope="module")
def x():
    return torch.randn(30, 2, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def evidence(x):
    return evaluate(model, guide, x, num_samples=50)


def test_the_difference_is_paired_on_points_drawn_at_random(x, evidence):
    progress = []
    comparison = compare_annealing(
        model, guide, x, evidence, 12, num_chains=8, num_temperatures=60, seed=3, on_progress=progress.append
    )
    index = random_rows(x, 12, 3)
    assert torch.equal(comparison.index, index)
    assert sum(progress) == pytest.approx(12)
    annealed = ais(model, guide, x[index], 8, 60, 3)
    assert torch.equal(comparison.annealed.log_likelihood, annealed.log_likelihood)
    assert torch.equal(comparison.weighted, evidence.log_likelihood[index])
    pairs = (annealed.log_likelihood - evidence.log_likelihood[index]).double()
    assert comparison.difference.value == pytest.approx(float(pairs.mean()))
    assert comparison.difference.data_se == pytest.approx(float(pairs.std() / math.sqrt(12)))
    assert comparison.difference.value > 3 * comparison.difference.mc_se  # annealing is closer
    exact = dist.Normal(torch.zeros(2), math.sqrt(1.25)).to_event(1).log_prob(x[index])
    assert float((comparison.annealed.log_likelihood - exact).mean()) == pytest.approx(0, abs=0.1)
    assert comparison.bracket is None
    assert json.loads(json.dumps(comparison.to_dict()))["points"] == index.tolist()


def test_bdmc_brackets_as_many_simulated_points(x, evidence):
    comparison = compare_annealing(
        model, guide, x, evidence, 10, num_chains=4, num_temperatures=30, start="guide", bdmc=True
    )
    assert comparison.annealed.metadata["start"] == "guide"
    assert len(comparison.bracket.lower) == 10
    assert "bdmc" in comparison.to_dict()


def test_more_points_than_there_are_means_all(x, evidence):
    assert compare_annealing(model, guide, x, evidence, 100, 2, 2).index.tolist() == list(range(30))


def test_evidence_of_other_points_is_refused(x, evidence):
    with pytest.raises(InvalidInputError, match="evidence is of other points than x"):
        compare_annealing(model, guide, x + 1, evidence)


def test_what_cannot_be_annealed_is_refused_beforehand(x, evidence):
    with pytest.raises(InvalidInputError, match="There is no start 'gide'"):
        check_can_anneal(model, guide, x, "gide")
    with pytest.raises(InvalidInputError, match="There is no start 'gide'"):
        compare_annealing(model, guide, x, evidence, 5, start="gide")
    gmm = pyrovae.load("vqvae")(4)
    with pytest.raises(InvalidInputError):
        check_can_anneal(*gmm, torch.rand(4, 4))
    check_can_anneal(model, guide, x, "guide")
