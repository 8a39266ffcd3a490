"""Functions of log-weights against naive ones and closed forms, and what Evidence says of them."""

import math

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyrovae import InvalidInputError, evaluate
from pyrovae.data.transforms import Dequantise, Identity
from pyrovae.statistics import log_weights as statistics
from pyrovae.statistics.estimate import mean_over_points
from pyrovae.statistics.streaming import StreamingStatistics


def test_against_the_formulas_written_out():
    log_w = torch.randn(40, 5).double()
    w = log_w.exp().numpy()
    np.testing.assert_allclose(statistics.elbo(log_w), log_w.numpy().mean(0), atol=1e-12)
    np.testing.assert_allclose(statistics.log_likelihood(log_w), np.log(w.mean(0)), atol=1e-12)
    np.testing.assert_allclose(statistics.ess(log_w), w.sum(0) ** 2 / (w**2).sum(0), atol=1e-10)
    np.testing.assert_allclose(
        statistics.log_likelihood_se(log_w), w.std(0, ddof=1) / math.sqrt(40) / w.mean(0), atol=1e-12
    )
    np.testing.assert_allclose(statistics.elbo_se(log_w), log_w.numpy().std(0, ddof=1) / math.sqrt(40), atol=1e-12)


def test_thousands_of_nats_do_not_overflow():
    log_w = torch.tensor([[-90_000.0], [-90_001.0]]).double()
    assert statistics.log_likelihood(log_w).item() == pytest.approx(
        -90_000 + math.log((1 + math.exp(-1)) / 2), abs=1e-9
    )
    assert 1 < statistics.ess(log_w).item() < 2


def test_standard_errors_cover_at_their_nominal_rate():
    """500 estimates from 400 log-normal weights each: their errors, in standard errors, have variance about 1."""
    log_w = 0.5 * torch.randn(400, 500).double() - 0.125  # E w = 1, E log w = −1/8, gap 1/8
    for estimate, se, truth in (
        (statistics.log_likelihood(log_w), statistics.log_likelihood_se(log_w), 0.0),
        (statistics.elbo(log_w), statistics.elbo_se(log_w), -0.125),
        (statistics.log_likelihood(log_w) - statistics.elbo(log_w), statistics.gap_se(log_w), 0.125),
    ):
        covered = ((estimate - truth).abs() < 1.96 * se).double().mean().item()
        assert 0.89 < covered < 0.99  # 95 % ± 6 standard errors, less a little for the bias −se²/2 of a logarithm


def test_one_sample_has_no_error():
    log_w = torch.randn(1, 3)
    torch.testing.assert_close(statistics.log_likelihood(log_w), log_w[0])
    for name in ("log_likelihood_se", "elbo_se", "gap_se", "log_likelihood_jackknife", "pareto_k"):
        with pytest.raises(InvalidInputError, match="One draw has no error: take at least 2 samples"):
            getattr(statistics, name)(log_w)
    assert statistics.bound_curve(log_w).num_samples == (1,)


def test_one_sample_is_scored_without_an_error(toy):
    found = evaluate(*toy, torch.zeros(3, 1), num_samples=1)
    assert found.log_likelihood.isfinite().all()
    assert found.log_likelihood_se.isnan().all()
    assert found.log_likelihood_jackknife.isnan().all()
    assert "one draw is too few" in found.reliability_message


def test_mean_over_points_keeps_its_two_errors_apart():
    values, se = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0.3, 0.4, 1.2])
    value, mc_se, data_se = mean_over_points(values, se)
    assert value == pytest.approx(3.0)
    assert mc_se == pytest.approx(1.3 / 3)
    assert data_se == pytest.approx(math.sqrt(7) / math.sqrt(3))


@pytest.fixture
def toy():
    """x = z + noise, both N(0, 1), with a guide that is wide by design: every quantity has a closed form."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1).to(x), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 1.0).to_event(1))

    return model, guide


def test_evaluate_against_closed_forms(toy, seed):
    x = torch.linspace(-3, 3, 9).double()[:, None]
    found = evaluate(*toy, x, num_samples=20_000, seed=seed)
    log_p = dist.Normal(0.0, math.sqrt(2)).log_prob(x[:, 0])
    kl = 0.5 * (2 - 1 - math.log(2))  # q has twice the variance of the posterior
    chi2 = 2 / math.sqrt(3) - 1  # ∫ p²/q − 1, the weights' relative variance
    assert ((found.log_likelihood - log_p).abs() < 6 * found.log_likelihood_se).all()
    assert ((found.elbo - (log_p - kl)).abs() < 6 * found.elbo_se).all()
    assert ((found.gap - kl).abs() < 6 * found.gap_se).all()
    torch.testing.assert_close(
        found.log_likelihood_se, torch.full_like(log_p, math.sqrt(chi2 / 20_000)), rtol=0.1, atol=0
    )
    torch.testing.assert_close(found.ess, torch.full_like(log_p, 20_000 / (1 + chi2)), rtol=0.05, atol=0)
    assert found.num_samples == 20_000
    assert found.latent == "R^1"


def test_the_samples_that_are_counted_are_the_samples_that_were_drawn(toy, monkeypatch):
    """Blocks of 7 do not divide 100: a log K taken from rounded-up blocks would be off by log(105/100)."""
    monkeypatch.setattr("pyrovae.estimators.batch_layout.BLOCK_ELEMENTS", {"cpu": 14})
    drawn = []
    original = StreamingStatistics.add
    monkeypatch.setattr(
        StreamingStatistics, "add", lambda self, w: (drawn.append(tuple(w.shape)), original(self, w))[1]
    )
    evaluate(*toy, torch.zeros(5, 1), num_samples=100)
    assert len(drawn) > 20
    assert sum(num_samples * points for num_samples, points in drawn) == 500


def test_same_seed_same_numbers_and_the_callers_random_state_untouched(toy):
    x = torch.zeros(3, 1)
    before = torch.get_rng_state()
    first, second, other = (evaluate(*toy, x, num_samples=50, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.log_likelihood, second.log_likelihood)
    assert not torch.equal(first.log_likelihood, other.log_likelihood)


def test_bits_per_dim_are_on_the_scale_of_the_pixels(toy):
    x = torch.rand(6, 1)
    pixels = evaluate(*toy, x, num_samples=10, transform=Dequantise(17))
    expected = (-pixels.log_likelihood.mean().item() + math.log(17)) / math.log(2)
    assert pixels.bits_per_dim == pytest.approx(expected, abs=1e-5)
    assert evaluate(*toy, x, num_samples=10).bits_per_dim is None


def test_model_of_another_measure_than_the_data(toy):
    with pytest.raises(InvalidInputError, match="data are binary.*model is a density"):
        evaluate(*toy, torch.zeros(3, 1), transform=Identity(discrete=True))


def test_evaluation_mode_is_used_and_undone():
    class Noisy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = torch.nn.Dropout(0.5)

        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(self.drop(torch.ones_like(x)), 1.0).to_event(1), obs=x)

    model = Noisy().train()
    found = evaluate(model, lambda x: None, torch.ones(4, 30).double(), num_samples=3)
    torch.testing.assert_close(found.log_likelihood, torch.full((4,), -15 * math.log(2 * math.pi)).double())
    assert model.training
    assert model.drop.training


def test_to_arviz_saves_and_comes_back(toy, tmp_path):
    found = evaluate(*toy, torch.rand(5, 1), num_samples=20)
    found.to_arviz().to_netcdf(str(tmp_path / "evidence.nc"))
    stats = arviz.from_netcdf(str(tmp_path / "evidence.nc")).sample_stats
    for name in ("elbo", "log_likelihood", "log_likelihood_se", "ess"):
        np.testing.assert_array_equal(stats[name].values, getattr(found, name).numpy())
    assert stats.attrs["num_samples"] == 20
    assert stats.attrs["seed"] == 0


@pytest.mark.parametrize("num_samples", [0, -1, 10.0])
def test_no_samples(toy, num_samples):
    with pytest.raises(InvalidInputError, match="give a whole number, at least 1"):
        evaluate(*toy, torch.zeros(3, 1), num_samples=num_samples)


def test_ess_in_single_precision_at_thousands_of_nats():
    log_w = torch.full((1000, 1), -20_000.0)
    assert statistics.ess(log_w).item() == pytest.approx(1000, rel=1e-6)
    assert statistics.log_likelihood_se(log_w).item() == pytest.approx(0, abs=1e-6)


def test_parameters_for_each_point_are_scored_on_all_points_at_once(monkeypatch):
    monkeypatch.setattr("pyrovae.estimators.batch_layout.BLOCK_ELEMENTS", {"cpu": 14})

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.linspace(-1, 1, 9)[:, None])  # the exact posterior means of x = 2 loc
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, 0.5**0.5).to_event(1))

    x = 2 * torch.linspace(-1, 1, 9)[:, None]
    found = evaluate(model, guide, x, num_samples=20)
    torch.testing.assert_close(found.log_likelihood, dist.Normal(0.0, 2**0.5).log_prob(x[:, 0]).double())
    assert found.ess.min() > 19.99


def test_describes_itself_in_a_line(toy):
    text = repr(evaluate(*toy, torch.rand(5, 1), num_samples=20))
    assert text.startswith("Evidence(5 points, 20 samples: log p̂(x) -")
    assert len(text) < 160
