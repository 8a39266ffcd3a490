"""Bounds of log p(x) from both sides: against exact draws of the posterior, closed forms and quadrature."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from coupled_draws import standard_errors_apart, with_exact

from pyrovae import InvalidInputError, load
from pyrovae.estimators import independent_weights, reverse_iwae, two_sided, two_sided_log_likelihood
from pyrovae.posterior import batching
from pyrovae.statistics.estimate import mean_over_points


def gaussian_pair(spread=1.0, shift=0.0):
    """z ~ N(0, 1), x ~ N(z, 1); the guide is the posterior N(x/2, 1/2), as often as wide and moved."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2 + shift, spread * math.sqrt(0.5)).to_event(1))

    return model, guide


def exponential_pair():
    """z ~ N(0, 1), x ~ N(eᶻ, 0.5²), whose posterior is skewed; the guide is the prior."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.exp(), 0.5).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))

    return model, guide


def two_mode_pair():
    """z ~ N(0, 1), x ~ N(z², 0.3²). The guide stays at the right-hand mode."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.square(), 0.3).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.sqrt(), 0.13).to_event(1))

    return model, guide


def on_a_grid(log_likelihood):
    """Under z ~ N(0, 1): a fine grid of z, log p(x, z) on it, and log p(x) by the trapezoid rule."""
    z = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
    log_joint = dist.Normal(0.0, 1.0).log_prob(z) + log_likelihood(z)
    return z, log_joint, log_joint.logsumexp(-1) + math.log(float(z[1] - z[0]))


# the number of draws


def test_points_whose_weights_vary_more_get_more_draws(seed):
    """K follows the pilot, and each point keeps its own numbers: against the trapezoid rule."""
    x = torch.tensor([0.05, 3.0, -1.0, 8.0, 0.5, 20.0]).double().unsqueeze(-1).repeat(5, 1)
    exact = torch.stack([on_a_grid(lambda z, x=x: dist.Normal(z.exp(), 0.5).log_prob(x))[2] for x in x.squeeze(-1)])
    result = two_sided_log_likelihood(*exponential_pair(), x, num_samples=16, num_replicates=20, seed=seed)
    assert len(result.num_draws.unique()) > 1
    assert ((result.num_draws % 16 == 0) & (result.num_draws <= 16 * 16)).all()
    assert (result.lower - 4.5 * result.lower_se < exact).all()
    assert (exact < result.upper + 4.5 * result.upper_se).all()
    assert (result.width < 0.1).all()


@pytest.mark.parametrize(
    ("variance", "draws"), [(0.0, 100), (1.0, 100), (1.1, 200), (3.0, 400), (1e9, 1600), (math.nan, 100)]
)
def test_draws_by_the_variance_of_the_pilot(variance, draws):
    """A power of 2 times 100, so that the variance over the draws is at most .01, but at most 16 times."""
    assert int(two_sided._num_draws(torch.tensor([variance]), 100)) == draws


# the bounds


def simulated_scores(seeds, points):
    """Coupled minus exact z₀ in standard errors, for each seed: on points that the model drew together with their z₀."""
    model, guide = gaussian_pair(spread=1.5, shift=0.3)
    like = torch.zeros(1, 1).double()
    scores = []
    for each in seeds:
        exact = reverse_iwae(model, guide, like, points=points, num_samples=16, seed=each)
        found = two_sided_log_likelihood(model, guide, exact.x, 16, 4, seed=each + 1000, proposal="guide")
        difference, _, se = mean_over_points(found.upper - exact.upper)
        scores.append(difference / se)
    return torch.tensor(scores)


def test_simulated_points_have_the_upper_bound_of_their_own_latents(seed):
    assert simulated_scores([seed], 2000).abs() < 4.5


@pytest.mark.slow
def test_simulated_points_over_twenty_seeds(seed):
    """Standard normal: the mean of 20 has the error 0.22, and the root mean square is near 1."""
    scores = simulated_scores(range(20 * seed, 20 * seed + 20), 1000)
    assert scores.mean().abs() < 4.5 / math.sqrt(20)
    assert 0.45 < scores.square().mean().sqrt() < 1.7


@pytest.mark.parametrize("proposal", ["modes", "guide"])
def test_a_skewed_posterior_has_its_exact_value_between_the_bounds(proposal, seed):
    """p(x) by quadrature; the mean of `upper` also by quadrature's own draws of z₀, where the prior proposes."""
    model, guide = exponential_pair()
    x = torch.tensor([0.3, 1.0, 2.5]).double().repeat(200)[:, None]
    z, log_joint, log_p = on_a_grid(lambda z: dist.Normal(z.exp(), 0.5).log_prob(x[:3]))
    log_p = log_p.repeat(200)
    found = two_sided_log_likelihood(model, guide, x, 16, 4, seed, proposal=proposal)
    below, above = found.lower - log_p, found.upper - log_p
    assert below.mean() < 4.5 * below.std() / math.sqrt(len(x))
    assert above.mean() > -4.5 * above.std() / math.sqrt(len(x))
    assert found.width.mean() > 0
    ratio = (found.pooled_log_likelihood - log_p).exp()  # unbiased, as the certificate needs it
    assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / math.sqrt(len(x))
    if proposal == "guide":
        rows = torch.distributions.Categorical(logits=log_joint).sample((2000,))
        z0, points = z[rows], x[:3, 0]
        noise = torch.randn(15, *z0.shape, dtype=torch.float64)
        exact = with_exact(dist.Normal(z0.exp(), 0.5).log_prob(points), dist.Normal(noise.exp(), 0.5).log_prob(points))
        exact = (exact - log_p[:3]).mean(1)
        assert abs(standard_errors_apart(above.reshape(200, 3).mean(1), exact)) < 4.5


def test_the_width_falls_as_one_over_the_draws(seed):
    model, guide = gaussian_pair(spread=1.4)
    x = torch.randn(200, 1).double()
    widths = [two_sided_log_likelihood(model, guide, x, K, 8, seed, proposal="guide").mean_width for K in (16, 128)]
    error = math.hypot(widths[0].mc_se / 8, widths[1].mc_se)
    assert abs(widths[0].value / 8 - widths[1].value) < 4.5 * error + 0.2 * widths[1].value


def test_the_errors_over_replicates_are_those_of_repetition(seed):
    model, guide = gaussian_pair(spread=1.4)
    x = torch.full((400, 1), 0.7).double()
    found = two_sided_log_likelihood(model, guide, x, 16, 8, seed, proposal="guide")
    for name in ("lower", "upper", "width"):
        claimed = getattr(found, f"{name}_se").square().mean().sqrt()
        assert 0.75 < claimed / getattr(found, name).std() < 1.33


@pytest.mark.parametrize(("name", "options"), [("ppca", {"latent": 2}), ("gmm", {})])
def test_an_exact_posterior_leaves_no_width(name, options, seed):
    """Latents with modes, and a class that the guide draws: every weight is p(x)."""
    torch.manual_seed(seed)
    model, guide = load(name)(6, **options)
    x = torch.randn(30, 6)
    found = two_sided_log_likelihood(model, guide, x, 32, 2, seed)
    assert found.proposal == "guide"
    assert found.width.abs().max() < 1e-6
    for bound in (found.lower, found.upper):
        torch.testing.assert_close(bound, model.log_prob(x).double(), atol=1e-5, rtol=1e-6)
    assert (found.num_steps >= 1).all()


def test_it_certifies_weights_and_not_modes(seed):
    """A guide that knows one mode of two has both bounds log 2 too low, close together. Modes that are searched for are found."""
    model, guide = two_mode_pair()
    x = torch.linspace(1.5, 3, 16).double()[:, None]
    _, _, log_p = on_a_grid(lambda z: dist.Normal(z.square(), 0.3).log_prob(x))
    one = two_sided_log_likelihood(model, guide, x, 128, 4, seed, proposal="guide")
    assert (one.upper < log_p - 0.5).all()
    assert one.mean_width.value < 0.05
    assert one.certificate < log_p.mean()  # holds whatever was missed
    both = two_sided_log_likelihood(model, guide, x, 128, 4, seed)
    assert both.proposal == "modes"
    assert (both.lower - log_p).mean() < 4.5 * both.mean_lower.mc_se
    assert (both.upper - log_p).mean() > -4.5 * both.mean_upper.mc_se
    assert "Given the modes found" in both.message


# what it says and refuses


def test_chains_that_do_not_meet_leave_no_upper_bound(seed):
    """A guide far off: one draw has the weight, and a chain stays where it is."""
    model, guide = gaussian_pair(spread=0.5, shift=1.5)
    found = two_sided_log_likelihood(
        model, guide, torch.zeros(60, 1).double(), 8, 4, seed, proposal="guide", max_steps=2
    )
    apart = int((~found.met).sum())
    assert apart > 0
    assert (found.upper[~found.met] == torch.inf).all()
    assert f"did not meet within 2 steps at {apart} of 60 points" in found.message
    assert "no upper bound" in found.message
    assert found.lower.isfinite().all()
    assert found.to_dict()["means"]["upper"]["value"] is None  # JSON has no infinity
    assert found.reliability == "lower_bound"
    assert not found.reliable[~found.met].any()


def test_a_wide_bracket_is_a_lower_bound_with_a_reason(seed):
    """The mean of the lower bound is low by some tenths of a nat, and the width says so."""
    model, guide = gaussian_pair(spread=3.0, shift=1.5)
    x = torch.randn(100, 1).double()
    found = two_sided_log_likelihood(model, guide, x, 2, 8, seed, proposal="guide")
    exact = dist.Normal(0.0, math.sqrt(2)).log_prob(x[:, 0])
    missing = float((exact - found.log_likelihood).mean())
    assert missing > 0.1
    assert found.mean_width.value > missing - 4 * found.mean_width.mc_se
    assert found.reliability == "lower_bound"
    assert "The width is above 0.05 nats" in found.reliability_message
    narrow = two_sided_log_likelihood(model, guide, x[:20], 1024, 4, seed)
    assert narrow.reliability == "reliable"
    assert narrow.reliability_message == narrow.message


def test_points_in_chunks_and_a_device_that_runs_out_of_memory(seed, monkeypatch):
    """Draws of the guide, chunks of at most 7 points, and memory for 3: every point is there once, and in its place."""
    model, guide = gaussian_pair(spread=1.2)
    sizes, original = [], independent_weights.log_weights

    def log_weights(model, guide, x, *rest):
        sizes.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError
        return original(model, guide, x, *rest)

    monkeypatch.setattr(independent_weights, "log_weights", log_weights)
    monkeypatch.setattr(batching, "MIN_CHUNK_ROWS", 7 * batching.MIN_CHUNK_DRAWS)
    monkeypatch.setattr(batching, "CHUNK_ELEMENTS", {"cpu": 1})
    x = torch.linspace(-3, 3, 11).double()[:, None]
    found = two_sided_log_likelihood(model, guide, x, 128, 4, seed, proposal="guide")
    assert sizes[0] == 7
    assert max(sizes[1:]) <= 3
    torch.testing.assert_close(found.lower, dist.Normal(0.0, math.sqrt(2)).log_prob(x[:, 0]), rtol=0, atol=0.2)


def test_a_seed_repeats_the_bounds_and_leaves_the_random_state(seed):
    model, guide = gaussian_pair(spread=1.2)
    x = torch.randn(5, 1).double()
    state = torch.random.get_rng_state()
    first, again = (two_sided_log_likelihood(model, guide, x, 16, 2, seed) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.upper, again.upper)
    assert torch.equal(first.lower, again.lower)


def test_a_guide_that_knows_one_value_is_refused():
    model, guide = load("vqvae")(16)
    x = torch.rand(6, 16)
    with pytest.raises(InvalidInputError, match="knows only one z for each x"):
        two_sided_log_likelihood(model, guide, x, 16, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delta": 0.0}, "delta is 0.0"),
        ({"delta": "x"}, "delta is 'x'"),
        ({"num_samples": 1}, "num_samples is 1"),
        ({"num_replicates": 1}, "num_replicates is 1"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"proposal": "prior"}, "proposal is 'prior': give 'modes', 'guide', or None"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    model, guide = gaussian_pair()
    with pytest.raises(InvalidInputError, match=message):
        two_sided_log_likelihood(model, guide, torch.zeros(3, 1).double(), **settings)


def test_modes_are_refused_where_there_are_none():
    model, guide = load("gmm")(4)
    with pytest.raises(InvalidInputError, match="discrete"):
        two_sided_log_likelihood(model, guide, torch.randn(5, 4), 16, 2, proposal="modes")
