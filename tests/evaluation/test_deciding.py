"""decide(): the order of models whose log p(x) is known, ties, and where draws are put."""

import json

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import t

import pyrovae
from pyrovae import InvalidInputError, compare, decide
from pyrovae.evaluation import deciding


class Located(pyrovae.Module):
    """z ~ N(loc, 1), x|z ~ N(z, 1): x ~ N(loc, 2)."""

    def __init__(self, loc):
        super().__init__()
        self.loc = loc

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.full((1,), self.loc), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


class Exact(Located):
    def log_prob(self, x):
        return dist.Normal(self.loc, 2**0.5).log_prob(x[:, 0])


class Wide(pyrovae.Module):
    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 1.0).to_event(1))


def mean_log_p(loc: float, x: torch.Tensor) -> float:
    return float(dist.Normal(loc, 2**0.5).log_prob(x.double()).mean())


@pytest.fixture
def x():
    return torch.linspace(-2, 3, 60)[:, None]


def test_the_order_is_the_known_one_and_draws_go_where_it_is_open(x) -> None:
    """Of four models one is far below the others: it is scored once. Two are the same, which only more draws can say."""
    locations = {"a": 0.5, "copy": 0.5, "near": 0.0, "far": 4.0}
    pairs = {name: (Located(loc), Wide()) for name, loc in locations.items()}
    comparison = compare(pairs, x, tolerance=0.3)
    asked = []
    decision = decide(comparison, pairs, x, tie_tolerance=0.02, on_look=lambda look, names: asked.append((look, names)))
    truth = {name: mean_log_p(loc, x) for name, loc in locations.items()}
    for (first, second), each in decision.decisions.items():
        assert each.low <= truth[first] - truth[second] <= each.high
        assert decision.relation(second, first) == {">": "<", "<": ">", "=": "="}[each.relation]
    assert decision.relation("a", "copy") == "="
    assert decision.relation("near", "a") == "<"
    assert decision.names[-2:] == ("near", "far")
    assert all("far" not in names for _, names in asked)
    assert "near > far" in decision.message
    assert "a = copy: a tie at 0.02 nats." in decision.message
    content = json.loads(json.dumps(decision.to_dict(), allow_nan=False))
    assert content["order"] == list(decision.names)
    assert content["num_points"] == 60


def test_exact_models_are_not_scored_again(x, monkeypatch) -> None:
    pairs = {"a": (Exact(0.5), Wide()), "b": (Exact(0.4), Wide()), "c": (Exact(0.5), Wide())}
    comparison = compare(pairs, x)
    monkeypatch.setattr(deciding, "evaluate", lambda *_, **__: pytest.fail("it was scored again"))
    decision = decide(comparison, pairs, x, tie_tolerance=0.0)
    assert decision.looks == 1
    assert [decision.relation(*names) for names in (("a", "b"), ("b", "c"), ("a", "c"))] == [">", "<", "="]
    assert f"{mean_log_p(0.5, x) - mean_log_p(0.4, x):.5f}" == f"{decision.decisions['a', 'b'].low:.5f}"


def test_what_no_draw_can_tell_stays_open(x) -> None:
    """Without a tolerance two copies are never a tie; the looks are bounded, and the message says what is known."""
    pairs = {"a": (Located(0.5), Wide()), "b": (Located(0.5), Wide())}
    decision = decide(compare(pairs, x, tolerance=0.3), pairs, x, tie_tolerance=0.0, max_looks=2)
    assert decision.looks == 2
    assert decision.relation("a", "b") == "?"
    assert "a ? b: open after 2 looks, " in decision.message


def test_new_points_have_an_interval_of_their_own(x) -> None:
    """0.005 nats are told on these 60 points by exact densities, but 60 points do not tell them of all others."""
    pairs = {"a": (Exact(0.5), Wide()), "b": (Exact(0.6), Wide()), "far": (Exact(9.0), Wide())}
    decision = decide(compare(pairs, x), pairs, x, tie_tolerance=0.0)
    assert decision.names == ("a", "b", "far")
    assert decision.relation("a", "b") == ">"
    difference = dist.Normal(0.5, 2**0.5).log_prob(x) - dist.Normal(0.6, 2**0.5).log_prob(x)
    low, high = decision.new_points["a", "b"]
    center, error = float(difference.mean()), float(difference.std()) / 60**0.5
    assert (low + high) / 2 == pytest.approx(center, abs=1e-6)
    quantile = t.ppf(1 - 0.05 / 3 / 2, 59)  # of all three differences: which are neighbours the data say
    assert (high - low) / 2 == pytest.approx(quantile * error, rel=1e-5)
    assert low < 0 < high
    assert decision.message.endswith("For new points from the same source, at the same error rate: b > far.")


def test_what_cannot_be_decided_is_refused(x) -> None:
    pairs = {"a": (Located(0.5), Wide()), "b": (Located(0.0), Wide())}
    comparison = compare(pairs, x, tolerance=0.3)
    with pytest.raises(InvalidInputError, match="There is no pair for b"):
        decide(comparison, {"a": pairs["a"]}, x)
    with pytest.raises(InvalidInputError, match="other points than those of the comparison"):
        decide(comparison, pairs, x + 1)
    with pytest.raises(InvalidInputError, match="compare without num_samples"):
        decide(compare(pairs, x, 20), pairs, x)
    with pytest.raises(InvalidInputError, match="compare without repeated trainings"):
        decide(compare({"a": [pairs["a"], pairs["b"]]}, x, tolerance=0.3), pairs, x)
    with pytest.raises(InvalidInputError, match="max_looks is 0"):
        decide(comparison, pairs, x, max_looks=0)
    with pytest.raises(InvalidInputError, match="error_rate is 1: give a probability"):
        decide(comparison, pairs, x, error_rate=1)
