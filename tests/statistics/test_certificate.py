"""The certificate: its rate of violation at the weights that make Markov's inequality an equality, and ones that are wrong."""

import math

import pytest
import torch

from pyrovae import InvalidInputError
from pyrovae.statistics.certificate import certified_lower_bound

DELTA, REPETITIONS, POINTS = 0.05, 40_000, 3


def log_estimates(chance):
    """log p̂ of three points where log p = 0: one weight 1/q with probability q, else about 0; the others' are 1."""
    hit = torch.rand(REPETITIONS, dtype=torch.float64) < chance
    rare = torch.where(hit, -math.log(chance), -1000.0)
    return torch.stack([rare, *[torch.zeros_like(rare)] * (POINTS - 1)], dim=1)


def worst_rate(certificate):
    """The largest rate, over weights more and less rare, at which what is certified exceeds the mean of log p, 0."""
    chances = [0.99 * DELTA, 1.3 * DELTA, 0.9 * math.sqrt(DELTA), 0.5]
    values = {chance: log_estimates(chance).unique(dim=0, return_counts=True) for chance in chances}
    rates = []
    for rows, counts in values.values():
        wrong = torch.tensor([certificate(row) > 0 for row in rows])
        rates.append(float(counts[wrong].sum()) / REPETITIONS)
    return max(rates)


ERROR = 5 * math.sqrt(DELTA / REPETITIONS)


def test_it_is_wrong_as_often_as_delta_and_no_more():
    rate = worst_rate(lambda row: certified_lower_bound(row, DELTA))
    assert 0.99 * DELTA - ERROR < rate < DELTA + ERROR


@pytest.mark.parametrize(
    "broken",
    [
        lambda row: float(row.mean()) - math.log(1 / DELTA) / len(row) ** 2,
        lambda row: certified_lower_bound(
            row + math.log(1.5) / len(row), DELTA
        ),  # p̂ is 1.5 times too large, on average
        lambda row: float(row.mean()) - math.log(1 / DELTA) / 2 / len(row),
        lambda row: float(row.mean()),
    ],
    ids=["N squared", "biased", "half", "none"],
)
def test_a_broken_certificate_is_caught(broken):
    assert worst_rate(broken) > DELTA + ERROR


def test_of_a_number_of_points():
    log_p_hat = torch.tensor([1.0, 3.0])
    assert certified_lower_bound(log_p_hat, 0.025) == pytest.approx(2 - math.log(40) / 2)


@pytest.mark.parametrize("delta", [0, 1.0, -1, None])
def test_what_is_no_probability_is_refused(delta):
    with pytest.raises(InvalidInputError, match="give a probability between 0 and 1"):
        certified_lower_bound(torch.zeros(2), delta)
