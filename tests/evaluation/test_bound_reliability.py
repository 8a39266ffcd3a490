"""Whether the K-sample bound is called reliable: k̂ has no scale, and weights that are nearly equal have no tail that counts."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate, stats

import pyrovae
from pyrovae.evaluation.reliability import bound_shortfall, reliability_message

COUNT = 30.0


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(1), 2.0).to_event(1))
        pyro.sample("x", dist.Poisson(z.exp()).to_event(1), obs=x)


def log_joint(z):
    return stats.norm.logpdf(z, 0, 2) + stats.poisson.logpmf(COUNT, math.exp(z))


def integral(function):
    return integrate.quad(lambda z: function(z) * math.exp(log_joint(z)), 1, 6, points=[math.log(COUNT)])[0]


def test_a_light_guide_of_the_right_moments_is_reliable(seed):
    """A Gaussian guide has lighter tails than the posterior, so k̂ is above 0.67. 993 of 1,000 draws count all the same."""
    evidence = integral(lambda z: 1.0)
    mean = integral(lambda z: z) / evidence
    sd = math.sqrt(integral(lambda z: (z - mean) ** 2) / evidence)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_full((1,), mean), sd).to_event(1))

    x = torch.full((100, 1), COUNT, dtype=torch.float64)
    found = pyrovae.evaluate(model, guide, x, num_samples=1000, seed=seed, progress=False)
    assert found.high_pareto_k_fraction > 0.5
    assert found.reliability == "reliable"
    assert "the weights are nearly equal" in found.reliability_message
    error = found.log_likelihood - math.log(evidence)
    assert abs(error.mean()) < 4 * error.std() / 10 + 1e-4
    assert (error.abs() < 5 * found.log_likelihood_se).all()


@pytest.mark.parametrize(
    ("num_samples", "ess", "reliable"), [(1000, 950.0, True), (1000, 850.0, False), (200, 195.0, False)]
)
def test_a_high_k_counts_where_draws_are_few_or_weights_differ(num_samples, ess, reliable):
    k, ess = torch.tensor([1.5]), torch.tensor([ess])
    assert bool(bound_shortfall(num_samples, k, ess, False) == 0) == reliable
    assert reliability_message(num_samples, k, ess, 0.0, False).startswith("Trust" if reliable else "Do not trust")
