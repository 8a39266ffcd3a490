"""Annealing from the mixture that was fitted to each point's posterior: unbiased for p(x), by closed forms and quadrature."""

import math
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyrovae import guides, load, sample
from pyrovae.estimators.annealing_path import anneal_from_mixture
from pyrovae.estimators.annealing_starts import MixtureStart
from pyrovae.posterior.joint_density import Joint
from pyrovae.posterior.mixture_fitting import fit_mixture
from pyrovae.posterior.mode_search import thorough_search

ERRORS = 5  # standard errors


def fitted(model, guide, x):
    """The densities at x, and the mixture fitted to them."""
    joint = Joint(model, guide, x)
    return joint, fit_mixture(joint, thorough_search(joint), 0.05, 1024)[0]


def gaussian_pair(name, points):
    model, _ = load(name)(6, latent=3)
    model = model.double().requires_grad_(False)
    guide = guides.MeanField(6, 3, (8,)).double().requires_grad_(False)
    return model, guide, sample(model, points, torch.zeros(points, 6).double())


@torch.no_grad()
@pytest.mark.parametrize("name", ["ppca", "factor_analysis"])
def test_every_weight_is_unbiased_however_poor_the_mixture(name, seed):
    """Half a standard deviation off and 1.5 times too wide, six temperatures: E w = p(x) at every point."""
    model, guide, x = gaussian_pair(name, 4)
    joint, mixture = fitted(model, guide, x)
    poor = replace(mixture, location=mixture.location + 0.5 * mixture.widths, widths=1.5 * mixture.widths)
    found = anneal_from_mixture(joint, poor, num_chains=4000, num_temperatures=6)
    w = (found.log_w - model.log_prob(x)).exp()
    assert ((w.mean(0) - 1).abs() < ERRORS * w.std(0) / math.sqrt(len(w))).all()
    assert (w.std(0) > 0.1).all()  # so that the test can fail


@torch.no_grad()
def test_few_chains_and_their_error(seed):
    """16 chains: 60 errors in units of the standard error have a mean square of about 1 (χ²_60 / 60 has the error 0.18)."""
    model, guide, x = gaussian_pair("ppca", 60)
    weights = anneal_from_mixture(*fitted(model, guide, x)).weights
    error = weights.log_likelihood - model.log_prob(x)
    assert 0.3 < (error / weights.log_likelihood_se).square().mean() < 2.5
    assert error.square().mean().sqrt() < 0.15
    assert (weights.ess > 8).all()


def squared(x):
    """z ~ N(0.2, 1), x ~ N(z², 0.2²): two modes of unequal mass, or one that is skewed and flat."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.tensor(0.2).double(), 1.0))
        pyro.sample("x", dist.Normal(z.square(), 0.2), obs=x[:, 0])


def prior_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(torch.tensor(0.2).double(), 1.0))


@torch.no_grad()
def test_two_unequal_modes_against_quadrature(seed):
    x = torch.tensor([[-0.1], [0.3], [2.0]]).double()
    z = torch.linspace(-8, 8, 80_001, dtype=torch.float64)
    log_joint = dist.Normal(0.2, 1.0).log_prob(z) + dist.Normal(z.square(), 0.2).log_prob(x)
    exact = log_joint.logsumexp(1) + math.log(float(z[1] - z[0]))
    weights = anneal_from_mixture(*fitted(squared, prior_guide, x), num_chains=2000, num_temperatures=8).weights
    assert ((weights.log_likelihood - exact).abs() < ERRORS * weights.log_likelihood_se).all()
    assert (weights.log_likelihood_se < 0.03).all()


@torch.no_grad()
def test_some_of_the_points_by_themselves(seed):
    model, guide, x = gaussian_pair("ppca", 5)
    joint, mixture = fitted(model, guide, x)
    rows = torch.tensor([True, False, False, True, False])
    weights = anneal_from_mixture(joint.subset(rows), mixture.subset(rows), 200, 8).weights
    assert ((weights.log_likelihood - model.log_prob(x[rows])).abs() < ERRORS * weights.log_likelihood_se).all()


@torch.no_grad()
def test_coordinates_lead_back_to_the_latents(seed):
    """The density of the start at v is the mixture's at the u that v stands for."""
    model, guide, x = gaussian_pair("ppca", 5)
    joint, mixture = fitted(model, guide, x)
    u = mixture.draw(7)
    start = MixtureStart(joint, mixture)
    log_q, log_p = start.log_densities(start.coordinates(u))
    torch.testing.assert_close(log_q, mixture.log_density(u))
    torch.testing.assert_close(log_p, joint.log_p(u))
