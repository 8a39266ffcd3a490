"""best_set(): it holds the best model as often as it says, and it leaves out what is worse."""

import numpy as np
import pytest
import torch
from scipy import stats

from pyrovae import InvalidInputError
from pyrovae.statistics.paired_tests import best_set, student_t_quantile


def simulated(means: list[float], points: int, generator: torch.Generator) -> torch.Tensor:
    """Models on the same points: what makes a point hard for all has ten times the spread of what sets them apart."""
    shared = 10 * torch.randn(points, generator=generator, dtype=torch.float64)
    own = torch.randn(len(means), points, generator=generator, dtype=torch.float64)
    return torch.tensor(means, dtype=torch.float64)[:, None] + shared + own


@pytest.mark.parametrize("means", [[0.0] * 6, [0.1, 0.1, 0.0]])
def test_the_best_is_left_out_as_seldom_as_is_said(means: list[float], seed: int) -> None:
    """Of 1,000 data sets at most 5 % leave out the best one: 6 standard errors above, 0.05 + 6 × 0.0069."""
    generator = torch.Generator().manual_seed(seed)
    missed = sum(not best_set(simulated(means, 40, generator))[0] for _ in range(1000))
    assert missed / 1000 < 0.05 + 6 * (0.05 * 0.95 / 1000) ** 0.5


def test_of_two_equal_models_one_is_left_out_at_the_rate_of_the_test(seed: int) -> None:
    """With two models the one-sided test at 5 % is made of the lower one, so that one in ten data sets leaves one out."""
    generator = torch.Generator().manual_seed(seed)
    excluded = sum(not bool(best_set(simulated([0.0, 0.0], 40, generator)).all()) for _ in range(1000))
    assert abs(excluded / 1000 - 0.1) < 6 * (0.1 * 0.9 / 1000) ** 0.5


def test_what_is_worse_is_left_out(seed: int) -> None:
    """The paired error of a difference is 0.14, where a mean's own is 1: 1 nat is told."""
    values = simulated([1.0, 0.0, 1.0], 100, torch.Generator().manual_seed(seed))
    assert not best_set(values)[1]


def test_the_threshold_is_scipys_test() -> None:
    """Two models: the second is in the set if and only if the p-value of the paired one-sided t test is at least 5 %."""
    rng = np.random.default_rng(0)
    for shift in np.linspace(0, 1, 30):
        a = rng.normal(size=20)
        b = a + rng.normal(size=20) * 0.8 - shift
        if b.mean() < a.mean():
            p = stats.ttest_rel(b, a, alternative="less").pvalue
            assert bool(best_set(torch.tensor(np.stack([a, b])))[1]) == (p >= 0.05)


def test_a_lower_bound_is_given_the_benefit_of_what_may_be_missing() -> None:
    values = torch.zeros(2, 100) + torch.linspace(0, 1, 100)
    values[1] -= 1 + 0.01 * torch.randn(100)
    short = torch.zeros(2, 100)
    assert best_set(values, short).tolist() == [True, False]
    short[1] = 1.1
    assert best_set(values, short).tolist() == [True, True]


def test_points_of_unknown_shortfall_are_left_out_and_many_of_them_keep_a_model() -> None:
    values = torch.zeros(2, 100)
    values[1] = -1 - 0.01 * torch.randn(100)
    short = torch.zeros(2, 100)
    short[1, :5] = torch.inf
    assert best_set(values, short).tolist() == [True, False]
    short[1, 5] = torch.nan
    assert best_set(values, short).tolist() == [True, True]


def test_one_point_or_one_model_tells_nothing_apart() -> None:
    assert best_set(torch.tensor([[0.0], [9.0]])).all()
    assert best_set(torch.zeros(1, 5)).all()


@pytest.mark.parametrize("level", [0.0, 1.0, float("nan")])
def test_a_level_is_a_probability(level: float) -> None:
    with pytest.raises(InvalidInputError, match="give a probability between 0 and 1"):
        best_set(torch.zeros(2, 5), level=level)


def test_the_quantile_is_scipys() -> None:
    assert student_t_quantile(0.975, 4) == pytest.approx(stats.t.ppf(0.975, 4))
