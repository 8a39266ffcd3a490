"""evaluate() to a tolerance: which method a pair gets, the number against exact ones, and what is said of it."""

import json
import math
import types

import command_line
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyrovae
from pyrovae import InvalidInputError, evaluate, load
from pyrovae.evaluation.reliability import bound_shortfall
from pyrovae.statistics.reliability import mean_reliability


def line(loc, scale=0.5, at=None):
    """z ~ N(loc, 1), x ~ N(z, 1), so that x ~ N(loc, 2); and a guide with a mean and a scale of its own."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_full((1,), loc), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            mean = (x + loc) / 2 if at is None else torch.full_like(x, at)
            pyro.sample("z", dist.Normal(mean, scale).to_event(1))

    return model, guide


def exact_of_line(x, loc):
    return dist.Normal(loc, math.sqrt(2)).log_prob(x).sum(-1)


X = torch.linspace(-2, 3, 30).double().unsqueeze(-1)


def test_a_model_that_knows_its_density_is_exact():
    model, guide = load("ppca")(6, latent=2)
    x = torch.randn(20, 6)
    found = evaluate(model, guide, x)
    assert set(found.method) == {"exact"}
    assert torch.equal(found.log_likelihood, found.exact_log_likelihood)
    assert not found.log_likelihood_se.any()
    assert not found.num_draws.any()
    assert found.reliability == "reliable"
    assert found.num_samples == 500  # of the bound beside it
    torch.testing.assert_close(found.bound_error, found.exact_log_likelihood - found.bound)
    assert (found.bound_error.abs() < 6 * found.bound_se + 1e-4).all()


@pytest.mark.parametrize(("scale", "at"), [(0.7, None), (0.1, None), (0.1, 8.0)], ids=["good", "narrow", "far away"])
def test_no_good_guide_is_needed(scale, at, seed):
    """The K-sample bound is low by up to tens of nats, the estimate is not, and `bound_error` says by how much."""
    model, guide = line(1.0, scale, at)
    found = evaluate(model, guide, X, seed=seed, tolerance=0.02)
    exact = exact_of_line(X, 1.0)
    assert set(found.method) == {"laplace"}
    assert found.reached.all()
    assert (found.log_likelihood_se <= 0.02).all()
    assert ((found.log_likelihood - exact).abs() < 5 * found.log_likelihood_se + 1e-9).all()
    assert found.reliability == "reliable"
    torch.testing.assert_close(found.bound_error, found.log_likelihood - found.bound)
    if at is not None:
        bound = evaluate(model, guide, X, num_samples=1000, seed=seed)
        assert (exact - bound.log_likelihood).mean() > 3
        assert bound.reliability != "reliable"


def test_the_gap_and_its_error_cover_the_kl_divergence(seed):
    """Of N(m, s²) from the posterior N(m, 1/2): ½ (2 s² − 1 − log 2 s²). 300 points, ±1.96 errors."""
    scale = 0.4
    kl = 0.5 * (2 * scale**2 - 1 - math.log(2 * scale**2))
    found = evaluate(*line(0.0, scale), X.repeat(10, 1), seed=seed)
    covered = ((found.gap - kl).abs() < 1.96 * found.gap_se).double().mean()
    assert 0.90 <= covered <= 0.99


def test_given_a_number_of_samples_it_is_the_bound():
    model, guide = line(0.0)
    found = evaluate(model, guide, X, num_samples=300)
    assert set(found.method) == {"importance_sampling"}
    assert torch.equal(found.log_likelihood, found.bound)
    assert found.tolerance is None
    assert found.bound_error is None
    assert "bound_error" not in found.to_dict()["means"]
    both = evaluate(model, guide, X, num_samples=300, tolerance=0.05)
    assert torch.equal(both.bound, found.bound)
    assert set(both.method) == {"laplace"}


def test_a_discrete_latent_leaves_the_guides_draws():
    model, guide = load("vqvae")(16)
    found = evaluate(model, guide, torch.rand(8, 16))
    assert set(found.method) == {"importance_sampling"}
    assert "discrete" in found.reliability_message
    assert found.reliability == "not_estimated"  # the guide draws nothing
    assert found.bound_error is None


@pytest.mark.slow
def test_many_latents_have_the_number_of_quadrature(seed):
    """200 latents, each seen through a tanh: log p(x) is a sum of integrals over one latent. The guide's bound is nats off."""
    K, sd = 200, 0.5

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(K), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.tanh(z / 2), sd).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.5 * x, 0.8).to_event(1))

    x = torch.tanh(torch.randn(4, K) / 2) + sd * torch.randn(4, K)
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    integrand = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(torch.tanh(z / 2), sd).log_prob(x.double()[..., None])
    exact = (integrand.logsumexp(-1) + torch.log(z[1] - z[0])).sum(-1)
    found = evaluate(model, guide, x, num_samples=500, seed=seed, tolerance=0.1)
    assert set(found.method) <= {"laplace", "ais"}
    assert found.reliable.any()
    error = (found.log_likelihood.double() - exact).abs()
    assert (error < 4 * found.log_likelihood_se + 1e-3)[found.reliable].all()
    assert (exact - found.bound).abs().mean() > 1


def test_too_many_latents_leave_the_guides_draws():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(300), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z[..., :1], 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(300), 1.0).to_event(1))

    found = evaluate(model, guide, X[:4])
    assert set(found.method) == {"importance_sampling"}
    assert found.reliability_message.startswith(
        "The posterior has 300 dimensions, and its modes are searched in at most 256."
    )


@pytest.mark.parametrize("tolerance", [0, -1.0, math.nan, math.inf, "small"])
def test_a_tolerance_that_cannot_be(tolerance):
    with pytest.raises(InvalidInputError, match="give the standard error in nats"):
        evaluate(*line(0.0), X, tolerance=tolerance)


def test_points_that_there_is_no_time_for_have_the_bound(seed):
    model, guide = pyrovae.load("vae")(6, latent=2, hidden=[8])
    x = torch.randn(20, 6)
    evidence = pyrovae.evaluate(model, guide, x, seed=seed, max_seconds=1e-9)
    bound = pyrovae.evaluate(model, guide, x, 500, seed=seed)
    assert set(evidence.method) == {"importance_sampling"}
    assert torch.equal(evidence.log_likelihood, bound.log_likelihood)
    assert torch.equal(evidence.gap_se, bound.gap_se)
    assert "there was no time for 20 points" in evidence.reliability_message
    with pytest.raises(pyrovae.InvalidInputError, match="max_draws"):
        pyrovae.evaluate(model, guide, x, max_draws=3)


@pytest.fixture
def in_five_chunks(monkeypatch):
    """A pair, 40 points whose modes are searched 8 at a time, and what `evaluate` says of them."""
    monkeypatch.setattr("pyrovae.posterior.batching.MIN_CHUNK_ROWS", 0)
    monkeypatch.setattr("pyrovae.posterior.batching.CHUNK_ELEMENTS", {"cpu": 32 * 6 * 8})
    model, guide = pyrovae.load("vae")(6, latent=2, hidden=[8])
    x = torch.randn(40, 6)
    return model, guide, x, pyrovae.evaluate(model, guide, x, 100, tolerance=0.1)


def test_a_stopped_evaluation_goes_on_where_it_was(in_five_chunks, tmp_path, monkeypatch):
    """Stopped among the points whose modes are searched: the same numbers, bit by bit, and nothing is computed twice."""
    monkeypatch.setattr("pyrovae.estimators.partial_results.SAVE_INTERVAL_SECONDS", 0.0)
    model, guide, x, whole = in_five_chunks
    seen: list[float] = []

    def stop(points: float) -> None:
        seen.append(points)
        if sum(seen) > 30:  # 20 by the guide's draws, then 4 for each chunk
            raise KeyboardInterrupt

    path = tmp_path / "unfinished.pt"
    with pytest.raises(KeyboardInterrupt):
        pyrovae.evaluate(model, guide, x, 100, tolerance=0.1, partial_file=path, on_progress=stop)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["unfinished.pt", "unfinished.pt.modes"]
    searched: list[int] = []
    search = pyrovae.posterior.mode_search.search_modes
    monkeypatch.setattr(
        "pyrovae.posterior.mode_search.search_modes",
        lambda joint, thorough: (searched.append(len(joint.x)), search(joint, thorough))[1],
    )
    again = pyrovae.evaluate(model, guide, x, 100, tolerance=0.1, partial_file=path)
    assert sum(searched) < 40
    assert torch.equal(again.log_likelihood, whole.log_likelihood)
    assert torch.equal(again.num_draws, whole.num_draws)
    assert not list(tmp_path.iterdir())


def test_what_there_was_no_time_for_is_not_kept(in_five_chunks, tmp_path, monkeypatch):
    """Stopped after the deadline: without a deadline the same evaluation computes all that has no numbers."""
    model, guide, x, whole = in_five_chunks
    done: list[float] = []
    late = []
    monkeypatch.setattr("pyrovae.utils.deadline.time", types.SimpleNamespace(monotonic=lambda: 9.0 if late else 0.0))

    def stop(points: float) -> None:
        done.append(points)
        if sum(done) > 28:  # two chunks are finished
            late.append(True)
        if sum(done) > 37:
            raise KeyboardInterrupt

    path = tmp_path / "unfinished.pt"
    with pytest.raises(KeyboardInterrupt):
        pyrovae.evaluate(model, guide, x, 100, tolerance=0.1, max_seconds=5, partial_file=path, on_progress=stop)
    kept = torch.load(f"{path}.modes", weights_only=True)
    assert kept["points"] == 16
    assert kept["statistics"]["log_likelihood"].isfinite().all()
    again = pyrovae.evaluate(model, guide, x, 100, tolerance=0.1, partial_file=path)
    assert torch.equal(again.log_likelihood, whole.log_likelihood)


def test_a_number_does_not_depend_on_its_place():
    pairs = {"near": line(0.0), "far": line(2.0)}
    one = pyrovae.compare(pairs, X)
    other = pyrovae.compare(dict(reversed(pairs.items())), X)
    for name in pairs:
        assert torch.equal(one.evidence[name].log_likelihood, other.evidence[name].log_likelihood)
        assert torch.equal(one.evidence[name].elbo, other.evidence[name].elbo)
    assert not torch.equal(one.evidence["near"].elbo, pyrovae.compare(pairs, X, seed=1).evidence["near"].elbo)


def test_progress_reaches_the_number_of_points():
    done = []
    evaluate(*line(0.0), X, on_progress=done.append)
    assert sum(done) == pytest.approx(len(X))


def test_reliability_judges_the_mean():
    few = torch.zeros(100).double()
    assert mean_reliability(few) == "reliable"
    few[0] = 0.5
    assert mean_reliability(few) == "reliable"  # 0.005 nats of the mean
    few[1] = 0.7
    assert mean_reliability(few) == "lower_bound"
    few[2] = math.inf
    assert mean_reliability(few) == "lower_bound"
    few[:5] = math.nan
    assert mean_reliability(few) == "lower_bound"
    few[:6] = math.nan
    assert mean_reliability(few) == "not_estimated"


def test_what_the_bound_is_short_of_is_unknown_where_its_tail_is_heavy():
    k, ess = torch.tensor([0.2, 0.9, 0.9, -math.inf]).double(), torch.tensor([500.0, 20.0, 1.1, 1000.0]).double()
    short = bound_shortfall(1000, k, ess, deterministic_guide=False)
    assert short[[0, 3]].tolist() == [0.0, 0.0]
    assert short[1].isinf()
    assert short[2].isnan()
    assert bound_shortfall(1000, k, ess, deterministic_guide=True).isnan().all()


def test_the_file_has_each_points_method(tmp_path):
    found = evaluate(*line(0.0), X)
    numbers = found.to_dict()
    assert numbers["per_point"]["method"] == ["laplace"] * len(X)
    assert numbers["reliability"] == "reliable"
    found.to_arviz().to_netcdf(tmp_path / "found.nc")
    import arviz

    read = arviz.from_netcdf(tmp_path / "found.nc").sample_stats
    assert read["method"].values.tolist() == ["laplace"] * len(X)
    assert read["num_draws"].values.tolist() == found.num_draws.tolist()


def test_columns_of_few_values_are_a_part_of_the_message(tmp_path):
    """A density has no maximum there. By number in Python, by name where a file has names; and not where x has probabilities."""
    x = torch.randn(300, 3)
    model, guide = pyrovae.load("gaussian")(3)
    assert "few values" not in pyrovae.evaluate(model, guide, x).reliability_message
    x[:, 1] = (x[:, 1] > 0).float()
    clause = "In column {} x takes few values: the floor of variances decides the density."
    for options in ({}, {"num_samples": 100}):
        assert pyrovae.evaluate(model, guide, x, **options).reliability_message.endswith(clause.format(1))
    assert "few values" not in pyrovae.evaluate(model, guide, x[:100]).reliability_message  # too few to tell
    bits, q = pyrovae.load("bernoulli_mixture")(3, components=2)
    assert "few values" not in pyrovae.evaluate(bits, q, (x > 0).float()).reliability_message
    np.savetxt(tmp_path / "x.csv", x.numpy(), delimiter=",", header="a,flag,c", comments="")
    out = tmp_path / "out.json"
    text = command_line.invoke("compare", "--data", tmp_path / "x.csv", "--models", "gaussian", "--json", out).stdout
    assert "Column flag takes few values" in text  # the message of an exact number is not printed
    (row,) = json.loads(out.read_text())["models"]
    assert row["reliability_message"].endswith(clause.format("flag"))
