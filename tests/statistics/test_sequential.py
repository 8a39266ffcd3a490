"""Sequential decisions: how often any statement is wrong, by simulation, and what is decided where it is clear."""

import math

import numpy as np
import pytest

from pyrovae import InvalidInputError
from pyrovae.statistics.sequential import NoisyMean, SequentialOrder

REPEATS = 1000
LOOKS = 6


def decided(truth: dict[str, float], tie: float, rng: np.random.Generator, *, pooled: bool = False) -> SequentialOrder:
    """Looks until nothing is open, each of half the standard error: with fresh draws, or with those of earlier looks among them."""
    order = SequentialOrder(tuple(truth), tie)
    means = {name: NoisyMean(rng.normal(value, 0.1), 0.1) for name, value in truth.items()}
    for look in range(LOOKS):
        order.look(means)
        if not order.open_names:
            break
        for name in order.open_names:
            se = 0.1 / 2 ** (look + 1)
            fresh_se = se if not pooled else se * (4 / 3) ** 0.5  # three quarters of the draws are new
            fresh = rng.normal(truth[name], fresh_se)
            old = means[name]
            value = fresh if not pooled else (old.value / old.se**2 + fresh / fresh_se**2) * se**2
            means[name] = NoisyMean(value, se)
    return order


def is_wrong(order: SequentialOrder, truth: dict[str, float], tie: float) -> bool:
    """Whether any statement is false: an order that is not, or a tie of two that differ by more than the tolerance."""
    return any(
        (relation == ">" and truth[a] <= truth[b])
        or (relation == "<" and truth[a] >= truth[b])
        or (relation == "=" and abs(truth[a] - truth[b]) > tie)
        for a, b, relation, *_ in order.decisions.values()
    )


CASES = [
    ({"a": 0.0, "b": 0.0}, 0.0),  # equal, and no tie can be said: every order is an error
    ({"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0}, 0.0),
    ({"a": 0.0, "b": 0.0101}, 0.01),  # just above the tolerance: a tie is an error
    ({"a": 0.0, "b": 0.02, "c": 0.03}, 0.01),
]


@pytest.mark.parametrize("pooled", [False, True], ids=["fresh", "pooled"])
@pytest.mark.parametrize(("truth", "tie"), CASES)
def test_any_statement_is_wrong_as_seldom_as_is_said(truth, tie, pooled, seed) -> None:
    """At most 5 % of the runs, over all looks and pairs together: 6 errors of 1,000 runs above it are 0.091."""
    rng = np.random.default_rng(seed)
    wrong = sum(is_wrong(decided(truth, tie, rng, pooled=pooled), truth, tie) for _ in range(REPEATS))
    assert wrong / REPEATS < 0.05 + 6 * (0.05 * 0.95 / REPEATS) ** 0.5


def test_looks_without_correction_are_wrong_more_often(seed) -> None:
    """What the correction is for: 5 % at each of six looks and six pairs is an error in more than a third of the runs."""
    rng, truth = np.random.default_rng(seed), {"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0}
    wrong = 0
    for _ in range(500):
        for look in range(LOOKS):
            se = 0.1 / 2**look
            means = [rng.normal(value, se) for value in truth.values()]
            if max(means) - min(means) > 1.96 * math.sqrt(2) * se:
                wrong += 1
                break
    assert wrong / 500 > 1 / 3


def test_what_is_clear_is_decided_at_once_and_ties_are_found(seed) -> None:
    rng = np.random.default_rng(seed)
    truth = {"a": 0.0, "b": 5.0, "c": 0.0}
    found = decided(truth, 0.05, rng)
    relations = {pair: decision.relation for pair, decision in found.decisions.items()}
    assert relations == {("a", "b"): "<", ("b", "c"): ">", ("a", "c"): "="}
    assert found.decisions["a", "b"].low < -5 < found.decisions["a", "b"].high
    once = SequentialOrder(("a", "b"), 0.0)
    once.look({"a": NoisyMean(0.0, 0.1), "b": NoisyMean(5.0, 0.1)})
    assert once.open_names == set()
    assert once.looks == 1


def test_a_lower_bound_decides_nothing_that_its_shortfall_could_change() -> None:
    """a is ahead by 1 nat; b may be too low by 2, or by an unknown amount: then only b < a is out of reach."""
    for shortfall in (2.0, math.inf, math.nan):
        order = SequentialOrder(("a", "b"), 0.0)
        order.look({"a": NoisyMean(1.0, 0.01), "b": NoisyMean(0.0, 0.01, shortfall)})
        assert order.open_names == {"a", "b"}
        order.look({"a": NoisyMean(1.0, 0.01, shortfall), "b": NoisyMean(0.0, 0.01)})
        assert order.decisions["a", "b"].relation == ">"


def test_exact_means_are_ordered_without_error() -> None:
    order = SequentialOrder(("a", "b", "c"), 0.0)
    order.look({"a": NoisyMean(1.0, 0.0), "b": NoisyMean(1.0, 0.0), "c": NoisyMean(0.0, 0.0)})
    assert [decision.relation for decision in order.decisions.values()] == ["=", ">", ">"]


def test_settings_that_are_none() -> None:
    with pytest.raises(InvalidInputError, match="error_rate is 0: give a probability"):
        SequentialOrder(("a", "b"), 0.01, 0)
    with pytest.raises(InvalidInputError, match="tie_tolerance is -1: give nats per point"):
        SequentialOrder(("a", "b"), -1)
