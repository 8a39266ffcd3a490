"""Mixtures fitted to a pilot's draws: moments and tails in closed form, and the number of draws that an estimate needs."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyrovae.estimators import mode_sampling_log_likelihood
from pyrovae.posterior.joint_density import Joint
from pyrovae.posterior.mixture_fitting import fit_mixture, fitted
from pyrovae.posterior.mode_mixture import ModeMixture
from pyrovae.posterior.mode_search import short_search

D = 20


def prior_of(distribution):
    """z ~ this, of which x says nothing; and a guide."""

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", distribution)
            pyro.sample("x", dist.Normal(0.0, 1.0).expand(x.shape).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", distribution)

    return model, guide


def about_zero(points, d, scale=1.0, nu=8.0):
    """One component at 0, without a share of the prior."""
    one = torch.ones(points).double()
    zero = torch.zeros(1, points, d).double()
    eye = torch.eye(d).double().expand(1, points, d, d)
    return ModeMixture(zero, eye, zero + 1, zero[..., 0], nu * one, scale * one, 0.0)


X = torch.zeros(3, 1).double()


def test_centre_and_widths_become_those_of_the_posterior(seed):
    mean, scale = torch.tensor([0.3, -0.2]).double(), torch.tensor([0.6, 1.3]).double()
    joint = Joint(*prior_of(dist.Normal(mean, scale).to_event(1)), X)
    mixture = about_zero(3, 2)
    torch.manual_seed(seed)
    result = fitted(mixture, mixture.draw_with_prior(joint, 40_000))
    torch.testing.assert_close(result.location[0], mean.expand(3, 2), rtol=0, atol=0.05)
    torch.testing.assert_close(result.widths[0], scale.expand(3, 2), rtol=0.05, atol=0)


def test_few_draws_leave_what_the_curvature_says(seed):
    joint = Joint(*prior_of(dist.Normal(torch.tensor([0.5]).double(), 1.0).to_event(1)), X)
    mixture = about_zero(3, 1)
    torch.manual_seed(seed)
    result = fitted(mixture, mixture.draw_with_prior(joint, 8))
    assert (result.location.abs() < 0.25).all()  # 8 draws beside 64
    assert ((result.widths > 0.85) & (result.widths < 1.15)).all()


def test_a_mode_without_draws_stays_as_it_is():
    """One that does not exist, and one of which no draw comes near: beside one that has them all."""
    one = about_zero(3, 1)
    far = torch.stack([one.location[0], one.location[0] + 1e4, one.location[0]])
    log_weights = torch.tensor([0.5, 0.5, 0.0]).double().log().unsqueeze(-1).expand(3, 3)
    mixture = ModeMixture(
        far,
        one.axes.expand(3, 3, 1, 1),
        one.widths.expand(3, 3, 1),
        log_weights,
        one.degrees_of_freedom,
        one.scale,
        0.0,
    )
    joint = Joint(*prior_of(dist.Normal(torch.zeros(1).double(), 1.0).to_event(1)), X)
    torch.manual_seed(0)
    result = fitted(mixture, one.draw_with_prior(joint, 500))
    torch.testing.assert_close(result.location[1:], far[1:], rtol=0, atol=1e-6)
    torch.testing.assert_close(result.widths[1:], mixture.widths[1:])
    assert (result.log_weights[2] == -torch.inf).all()
    assert result.log_weights[:2].isfinite().all()


@pytest.mark.parametrize(("tails", "nu"), [(dist.StudentT(6.0, torch.zeros(12).double(), 1.0), 8.0), (None, 30.0)])
def test_tails_are_chosen_by_the_variance_of_the_weights(tails, nu, seed):
    heavy = tails if tails is not None else dist.Normal(torch.zeros(12).double(), 1.0)
    joint = Joint(*prior_of(heavy.to_event(1)), X)
    mixture = about_zero(3, 12)
    torch.manual_seed(seed)
    result = fitted(mixture, mixture.draw_with_prior(joint, 4000))
    if tails is None:
        assert (result.degrees_of_freedom == nu).all()
    assert set(result.degrees_of_freedom.tolist()) <= {8.0, 30.0}


def skewed(x):
    """z ~ N(0, I), x_i ~ N(exp(z_i), ½): the posterior of each z_i is skewed, and known."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(D), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.exp(), 0.5).to_event(1), obs=x)


def narrow(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x.new_zeros(D), 0.1).to_event(1))


def exact_of_skewed(x):
    z = torch.linspace(-12, 6, 20_001).double()
    log_joint = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z.exp(), 0.5).log_prob(x.unsqueeze(-1))
    return (log_joint.logsumexp(-1) + math.log(float(z[1] - z[0]))).sum(-1)


def test_twenty_skewed_latents_against_quadrature(seed):
    """A hard case: up to 20,000 draws a point. What is called reliable is right, and what is not is said to be too low."""
    torch.manual_seed(seed)
    x = (torch.randn(40, D).double() * 0.7).exp()
    exact = exact_of_skewed(x)
    found = mode_sampling_log_likelihood(skewed, narrow, x, tolerance=0.05, seed=seed)
    error = found.log_likelihood - exact
    assert (error.abs() < 4 * found.log_likelihood_se + 0.05)[found.reliable].double().mean() > 0.97
    assert abs(error[found.reliable].mean()) < 0.06
    assert found.reliable.double().mean() > 0.5
    assert (found.shortfall[~found.reliable] > 0).all()


def test_the_number_of_draws_gives_the_tolerance(seed):
    """Weights N(0, 1) / t₅: the relative variance by quadrature is what the pilot finds, twice and with three errors."""
    joint = Joint(*prior_of(dist.Normal(torch.zeros(1).double(), 1.0).to_event(1)), torch.zeros(50, 1).double())
    torch.manual_seed(seed)
    mixture, needed = fit_mixture(joint, short_search(joint), 0.05, 20_000)
    z = torch.linspace(-40, 40, 200_001).double()
    p = dist.Normal(0.0, 1.0).log_prob(z).exp()
    width = float(mixture.widths[0, 0, 0] * mixture.scale[0])
    q = 0.9 * dist.StudentT(5.0, 0.0, width).log_prob(z).exp() + 0.1 * p
    variance = float((p.square() / q).sum() * (z[1] - z[0])) - 1
    assert 1.6 * variance / 0.05**2 < float(needed.median()) < 6 * variance / 0.05**2
