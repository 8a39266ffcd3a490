"""Two-sided bounds on simulated points, against exact values. Means over points are held to 4 standard errors of their spread,
which a correct program leaves once in 30,000 runs."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import pyrovae
from pyrovae import InvalidInputError
from pyrovae.estimators.bidirectional import bdmc, reverse_iwae


@pytest.fixture
def pair():
    """PPCA in R^8 with 3 latents and a mean-field guide near the posterior, for which weights and chains have work to do."""
    model, _ = pyrovae.load("ppca")(8, latent=3)
    with torch.no_grad():
        model.log_sigma.fill_(math.log(0.4))
    model = model.double()

    def guide(x):
        posterior = model.posterior(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(posterior.mean.detach() + 0.1, 1.2 * posterior.stddev.detach()).to_event(1))

    return model, guide, torch.zeros(2, 8).double()


def held(bracket):
    """Below is never above, above is never below, in the mean and beyond 4 standard errors over points."""
    root = math.sqrt(len(bracket))
    below, above = bracket.lower - bracket.exact, bracket.upper - bracket.exact
    assert below.mean() < 4 * below.std() / root
    assert above.mean() > -4 * above.std() / root
    return bracket.mean_width


@pytest.mark.parametrize("start", ["prior", "guide"])
def test_bdmc_brackets_the_exact_value_and_closes_as_chains_lengthen(pair, start, seed):
    widths = [
        held(bdmc(*pair, points=60, num_chains=8, num_temperatures=steps, seed=seed, start=start, num_leapfrog_steps=4))
        for steps in (10, 300)
    ]
    short, long = (width.value for width in widths)
    assert long < 0.5 * short
    assert -4 * widths[1].data_se < long < 0.15


def test_bdmc_from_the_fitted_posterior_is_narrow(pair, seed):
    """By default: backward chains end at the mixture, forward chains begin there, and neither loses much."""
    found = bdmc(*pair, points=100, seed=seed)
    width = held(found)
    assert found.metadata["start"] == "posterior"
    assert -4 * width.data_se < width.value < 0.02
    assert found.reliability == "reliable"
    assert found.reliability_message.startswith("Reliable on simulated points: it is too low by at most 0.0")
    assert torch.equal(found.log_likelihood, found.lower)


def test_a_wide_bracket_is_a_lower_bound(pair, seed):
    found = bdmc(*pair, points=60, num_chains=4, num_temperatures=3, seed=seed, start="prior", num_leapfrog_steps=1)
    assert found.mean_width.value > 0.2
    assert found.reliability == found.to_dict()["reliability"] == "lower_bound"


def test_reverse_iwae_brackets_the_exact_value_and_closes_as_draws_grow(pair, seed):
    few, many = (held(reverse_iwae(*pair, points=200, num_samples=num_samples, seed=seed)) for num_samples in (2, 500))
    assert few.value > 4 * few.data_se
    assert many.value < 0.3 * few.value


def test_an_exact_guide_leaves_no_width():
    model, guide = pyrovae.load("ppca")(8, latent=3)
    found = reverse_iwae(model.double(), guide, torch.zeros(2, 8).double(), points=5, num_samples=3)
    for bound in (found.lower, found.upper):
        torch.testing.assert_close(bound, found.exact, rtol=0, atol=1e-10)


def test_reverse_iwae_knows_discrete_latents(seed):
    """A guide that ignores x, on a mixture: the exact draw's weight is among the largest, and the bracket holds."""
    model, _ = pyrovae.load("gmm")(2, components=3)
    model = model.double()

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Categorical(torch.ones(len(x), 3).double()))

    width = held(reverse_iwae(model, guide, torch.zeros(2, 2).double(), points=200, num_samples=4, seed=seed))
    assert width.value > 0


def test_the_formula_written_out():
    """With 2 draws: log((w₀ + w₂)/2) from the exact z₀ and the second draw, log((w₁ + w₂)/2) below: they share w₂."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.5 * x, 1.0).to_event(1))

    found = reverse_iwae(model, guide, torch.zeros(2, 1).double(), points=40_000, num_samples=2)
    # E_{z₀ ~ p(z|x)} E_{z₁ ~ q} log (w₀ + w₁)/2 − log p(x), by quadrature over both: it does not depend on x
    z = torch.linspace(-7, 7, 701, dtype=torch.float64)
    step = float(z[1] - z[0])
    posterior, q = dist.Normal(0.0, math.sqrt(0.5)), dist.Normal(0.0, 1.0)
    log_ratio = posterior.log_prob(z) - q.log_prob(z)
    both = torch.logaddexp(log_ratio[:, None], log_ratio) - math.log(2)
    above = ((posterior.log_prob(z)[:, None] + q.log_prob(z)).exp() * both).sum() * step**2
    below = ((q.log_prob(z)[:, None] + q.log_prob(z)).exp() * both).sum() * step**2
    exact = dist.Normal(0.0, math.sqrt(2)).log_prob(found.x[:, 0])
    for bound, expected in ((found.upper, above), (found.lower, below)):
        difference = bound - exact
        assert abs(difference.mean() - expected) < 5 * difference.std() / 200


def test_says_what_each_number_is(pair):
    found = bdmc(*pair, points=3, num_chains=4, num_temperatures=5)
    assert found.bounds["lower"] == "lower"
    assert found.bounds["upper"] == "upper"
    assert repr(found).startswith("BDMCResult(3 simulated points, BDMC: -")
    assert found.x.shape == (3, 8)
    again = bdmc(*pair, points=3, num_chains=4, num_temperatures=5)
    assert torch.equal(found.upper, again.upper)


# What it must refuse.


def test_one_draw_has_no_error(pair):
    with pytest.raises(InvalidInputError, match="samples is 1: give a whole number, at least 2"):
        reverse_iwae(*pair, num_samples=1)


@pytest.mark.parametrize("bound", [bdmc, reverse_iwae])
def test_an_exact_value_that_is_not_one_number_for_each_point(pair, bound):
    model, guide, like = pair
    model.log_prob = lambda x: x
    with pytest.raises(
        InvalidInputError, match=r"model.log_prob\(x\) has shape \(3, 8\): it must be one number per point"
    ):
        bound(model, guide, like, 3, 2, 3)


def test_x_that_cannot_be_simulated():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("a", dist.Normal(z[..., 0], 1.0), obs=x[:, 0])
            pyro.sample("b", dist.Normal(z[..., 0], 1.0), obs=x[:, 1])

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x[:, :1], 1.0).to_event(1))

    with pytest.raises(InvalidInputError, match="let one site observe x itself"):
        bdmc(model, guide, torch.zeros(2, 2))


def test_a_guide_without_a_density_at_the_exact_draw(pair):
    model, _, like = pair
    guide = AutoNormal(model)
    guide(torch.zeros(5, 8).double())
    with pytest.raises(InvalidInputError, match="no density at the exact one"):
        reverse_iwae(model, guide, like, points=5)


def test_discrete_latents_in_bdmc():
    model, guide = pyrovae.load("gmm")(2, components=3)
    with pytest.raises(InvalidInputError, match="Latent 'z' is discrete"):
        bdmc(model, guide, torch.zeros(2, 2))
