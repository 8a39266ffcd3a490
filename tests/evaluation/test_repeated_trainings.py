"""Several trainings of one pair as one row of a comparison: its numbers against numpy on the trainings' own."""

import io
import json
import math

import numpy as np
import pytest
import torch
from rich.console import Console
from small_pairs import located

from pyrovae import InvalidInputError, compare
from pyrovae.evaluation.averaging import _largest
from pyrovae.evaluation.comparing import score_pairs
from pyrovae.evaluation.repeated_trainings import average_trainings, training_name
from pyrovae.tables.comparison import show

METADATA = {
    "data": "toy", "split": "-", "split_seed": 0, "transform": "as given", "base_measure": "Lebesgue on R^1", "seed": 0,
    "num_samples": 50, "tolerance": None, "dtype": "float32", "device": "cpu", "pyrovae": "0", "torch": "0", "pyro": "0",
    "python": "3", "train_seeds": [0, 1, 2],
}  # fmt: skip


@pytest.fixture
def comparison():
    x = torch.linspace(-1, 2, 40)[:, None]
    pairs = {"once": located(3.0), "three": [located(0.4), located(0.5), located(0.8)]}
    return compare(pairs, x, 50)


def test_a_row_is_the_mean_of_its_trainings(comparison) -> None:
    x = torch.linspace(-1, 2, 40)[:, None]
    alone = score_pairs({training_name("three", 2): located(0.5)}, x, 50).evidence["three, training 2"]
    trainings, mean = comparison.trainings["three"], comparison.evidence["three"]
    assert torch.equal(trainings[1].log_likelihood, alone.log_likelihood)  # its draws follow from its own name
    for name in ("log_likelihood", "elbo", "gap", "bound", "ess"):
        each = np.stack([getattr(training, name).double().numpy() for training in trainings])
        np.testing.assert_allclose(getattr(mean, name).numpy(), each.mean(0), rtol=1e-6, atol=1e-6)
    for name in ("log_likelihood_se", "elbo_se", "bound_se"):
        each = np.stack([getattr(training, name).double().numpy() for training in trainings])
        np.testing.assert_allclose(getattr(mean, name).numpy(), np.sqrt((each**2).sum(0)) / 3, rtol=1e-5)
    worst = np.stack([training.pareto_k.numpy() for training in trainings]).max(0)
    np.testing.assert_allclose(mean.pareto_k.numpy(), worst, rtol=1e-6)
    assert mean.seconds == sum(training.seconds for training in trainings)
    assert list(comparison.evidence) == ["once", "three"]


def test_errors_over_trainings_stand_in_table_and_json(comparison) -> None:
    repeated = comparison.mean_over_trainings("three")
    means = np.array([training.mean_log_likelihood.value for training in comparison.trainings["three"]])
    mc = np.mean([training.mean_log_likelihood.mc_se**2 for training in comparison.trainings["three"]])
    assert repeated.train_se == pytest.approx(math.sqrt((means.var(ddof=1) - mc) / 3), rel=1e-6)
    content = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    once, three = content["models"]
    assert three["log_likelihood_train_se"] == repeated.train_se
    assert three["trainings"] == list(means)
    assert (once["log_likelihood_train_se"], once["trainings"]) == (None, [])
    assert content["differences"]["once"]["train_se"] is None  # one training does not tell
    page = io.StringIO()
    show(comparison, METADATA, Console(file=page, width=160))
    text = page.getvalue()
    assert "± Monte Carlo ± data ± training" in text
    estimate = comparison.evidence["three"].mean_log_likelihood
    assert f"{estimate.value:.3f} ± {estimate.mc_se:.3f} ± {estimate.data_se:.3f} ± {repeated.train_se:.3f}" in text
    assert "trainings from seeds 0 to 2" in text
    assert "± ? nats\n" in text.replace("  ", "").replace(" \n", "\n")


def test_two_repeated_pairs_have_an_interval(comparison) -> None:
    x = torch.linspace(-1, 2, 40)[:, None]
    both = compare({"a": [located(0.4), located(0.6)], "b": [located(2.0), located(2.2)]}, x, 50)
    numbers = both.to_dict()["differences"]["b"]
    low, high = both.difference_over_trainings("b", "a").interval()
    assert (numbers["interval_low"], numbers["interval_high"]) == (low, high)
    assert low < both.difference("b", "a").value < high < 0


def test_a_training_that_fails_takes_its_row_with_it() -> None:
    x = torch.zeros(3, 1)
    names = [training_name("b", number) for number in (1, 2)]

    def train(name):
        if name == names[1]:
            raise InvalidInputError("Training stopped at step 3.")

    scored = score_pairs(
        {"a": located(0.0), **{name: located(1.0) for name in names}}, x, 20, train=train, keep_failures=True
    )
    averaged = average_trainings(scored, {"b": names})
    assert list(averaged.evidence) == ["a"]
    assert averaged.failed == {"b": "training 2 of 2: Training stopped at step 3."}


def test_a_list_of_one_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="a is a list of 1 trainings: give at least 2, or the pair itself"):
        compare({"a": [located(0.0)]}, torch.zeros(3, 1))


def test_the_worst_of_trainings_keeps_what_is_not_a_number() -> None:
    """k̂ of flat weights is −∞ in each training, and so it is of the worst."""
    nan, inf = float("nan"), float("inf")
    values = torch.tensor([[-inf, nan, 0.2, inf], [-inf, 0.1, -inf, 0.3]])
    torch.testing.assert_close(_largest(values), torch.tensor([-inf, nan, 0.2, inf]), equal_nan=True)
