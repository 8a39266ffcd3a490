"""Coupled chains of resampling have the mean that exact draws of the posterior have."""

import math

import pyro.distributions as dist
import pytest
import torch
from coupled_draws import standard_errors_apart, with_exact

from pyrovae import load
from pyrovae.estimators.coupled_resampling import coupled_bounds
from pyrovae.pair.execution import modules
from pyrovae.posterior.joint_density import Joint
from pyrovae.posterior.mode_mixture import mixture_about
from pyrovae.posterior.mode_search import short_search


@pytest.mark.parametrize("num_samples", [2, 5])
def test_the_mean_is_that_of_exact_draws_where_the_prior_proposes(num_samples):
    """z ~ N(0, 1), x ~ N(z, 0.5²) at x = 1.5: p(z|x) = N(1.2, 0.2). With so few proposals the chains seldom meet at once."""
    replicates = 30_000

    def log_w(z):
        return dist.Normal(z, 0.5).log_prob(torch.tensor(1.5).double())

    def draw(count, rows):
        return log_w(torch.randn(count, int(rows.sum()), dtype=torch.float64))

    everyone = torch.ones(replicates, dtype=torch.bool)
    coupled = coupled_bounds(draw, everyone, num_samples, 10_000)
    z0 = 1.2 + math.sqrt(0.2) * torch.randn(replicates, dtype=torch.float64)
    exact = with_exact(log_w(z0), draw(num_samples - 1, everyone))
    assert coupled.num_steps.double().mean() > 1.5
    assert abs(standard_errors_apart(coupled.upper, exact)) < 4.5
    log_p = dist.Normal(0.0, math.sqrt(1.25)).log_prob(torch.tensor(1.5))
    assert coupled.lower.mean() < log_p < coupled.upper.mean()


def test_the_mean_is_that_of_exact_draws_where_the_mixture_proposes(seed):
    """PPCA, whose guide draws z₀ from the posterior itself. A fifth of the mixture is the prior; K = 3."""
    torch.manual_seed(seed)
    model, guide = load("ppca")(5, latent=2)
    for module in modules(model, guide):
        module.double()
    x = 2 * torch.randn(4, 5).double()
    x, num_samples = x.repeat(1500, 1), 3
    with torch.no_grad():
        joint = Joint(model, guide, x)
        mixture = mixture_about(joint, short_search(joint), prior_share=0.2)

        def draw(count, rows):
            return mixture.subset(rows).weigh_independent(joint.subset(rows), count)

        everyone = torch.ones(len(x), dtype=torch.bool)
        coupled = coupled_bounds(draw, everyone, num_samples, 10_000)
        log_w0 = mixture.log_weights_at(joint, joint.draw_guide(1))[0]
        exact = with_exact(log_w0, draw(num_samples - 1, everyone))
        log_p = model.log_prob(x)
        ratio = (draw(4, everyone) - log_p).exp()
    assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / math.sqrt(ratio.numel())  # independent draws are unbiased too
    assert abs(standard_errors_apart(coupled.upper - log_p, exact - log_p)) < 4.5
