"""Errors over repeated trainings: against simulated effects of points, trainings and draws that are known."""

import math

import numpy as np
import pytest
import torch

from pyrovae.statistics.trainings import difference_over_trainings, mean_over_trainings

MC = 0.3  # standard error of each number
REPEATS = 1000


def simulated(generator, trainings, points, train, interaction, shared=None):
    """Values of mean 0: an effect of each point, of each training, of both together, and the draws' noise."""
    effect = torch.randn(points, generator=generator) if shared is None else shared
    effect = effect + train * torch.randn(trainings, 1, generator=generator)
    effect = effect + interaction * torch.randn(trainings, points, generator=generator)
    return effect + MC * torch.randn(trainings, points, generator=generator), torch.full((trainings, points), MC)


@pytest.mark.parametrize(("trainings", "train", "interaction"), [(5, 0.5, 0.0), (3, 0.2, 0.5), (5, 0.0, 0.3)])
def test_the_interval_of_a_mean_covers_it(trainings, train, interaction, seed) -> None:
    """0 is the mean over points and trainings. 6 standard errors of 1,000 repeats: 0.95 ± 0.041; where the trainings' share is
    nearly nothing its estimate is cut off at 0, and the interval may cover more."""
    generator = torch.Generator().manual_seed(seed)
    held = 0
    for _ in range(REPEATS):
        low, high = mean_over_trainings(*simulated(generator, trainings, 60, train, interaction)).interval()
        held += low <= 0 <= high
    assert held / REPEATS > 0.95 - 0.041
    assert held / REPEATS < 0.995


def test_the_interval_of_a_difference_covers_it_and_one_training_each_does_not(seed) -> None:
    """Two models whose trainings differ by 0.3 nats: errors over points alone would be off at more than half of the data sets."""
    generator = torch.Generator().manual_seed(seed)
    held = naive = 0
    for _ in range(REPEATS):
        points = 5 * torch.randn(100, generator=generator)
        a, b = (simulated(generator, 5, 100, 0.3, 0.2, shared=points) for _ in range(2))
        low, high = difference_over_trainings(*a, *b).interval()
        held += low <= 0 <= high
        one = (a[0][0] - b[0][0]).double()
        naive += abs(float(one.mean())) <= 1.96 * float(one.std()) / 10
    assert abs(held / REPEATS - 0.95) < 0.041
    assert naive / REPEATS < 0.5


def test_each_error_is_that_of_its_source(seed) -> None:
    """Of 200 trainings: the sources' own sizes, by which the simulation was made."""
    values, se = simulated(torch.Generator().manual_seed(seed), 200, 400, 0.5, 0.0)
    estimate = mean_over_trainings(values, se)
    assert estimate.mc_se == pytest.approx(MC / math.sqrt(200 * 400))
    assert estimate.train_se == pytest.approx(0.5 / math.sqrt(200), rel=0.3)  # 6 errors of a standard deviation of 200
    assert estimate.data_se == pytest.approx(1 / math.sqrt(400), rel=0.22)
    assert estimate.value == pytest.approx(float(values.double().mean()))


def test_a_difference_is_paired_by_point() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=50) * 9
    a, b = (torch.as_tensor(points + rng.normal(size=(3, 50)) * 0.1) for _ in range(2))
    se = torch.zeros(3, 50)
    estimate = difference_over_trainings(a, se, b, se)
    difference = (a.mean(0) - b.mean(0)).numpy()
    assert estimate.data_se == pytest.approx(difference.std(ddof=1) / math.sqrt(50))
    spread = [float(each.mean(1).var()) / 3 for each in (a, b)]
    assert estimate.train_se == pytest.approx(math.sqrt(sum(spread)))
    data = estimate.data_se**2
    degrees = (sum(spread) + data) ** 2 / (spread[0] ** 2 / 2 + spread[1] ** 2 / 2 + data**2 / 49)
    assert estimate.degrees_of_freedom == pytest.approx(degrees)


def test_one_training_has_no_error_over_trainings() -> None:
    estimate = mean_over_trainings(torch.randn(1, 20), torch.zeros(1, 20))
    assert math.isnan(estimate.train_se)
    assert estimate.interval() == (-math.inf, math.inf)
    assert estimate.to_dict()["train_se"] is None
    assert estimate.to_dict()["interval_low"] is None
