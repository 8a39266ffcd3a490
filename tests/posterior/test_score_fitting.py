"""Components fitted to the gradients of a log-density: closed forms, and the equations that the best normal satisfies."""

import math

import pyro
import pyro.distributions as dist
import torch

from pyrovae.posterior.joint_density import Joint
from pyrovae.posterior.mode_mixture import ModeMixture
from pyrovae.posterior.score_fitting import fit_to_scores


def joint_of(prior, points=3):
    """z of this distribution, of which x says nothing: the posterior is the prior."""

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", prior)
            pyro.sample("x", dist.Normal(0.0, 1.0).expand(x.shape).to_event(1), obs=x)

    return Joint(model, model_guide(prior), torch.zeros(points, 1).double())


def model_guide(prior):
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", prior)

    return guide


def standard_mixture(points, d, at=0.0):
    """One component at `at` with unit widths."""
    one, zero = torch.ones(points).double(), torch.zeros(1, points, d).double()
    axes = torch.eye(d).double().expand(1, points, d, d)
    return ModeMixture(zero + at, axes, zero + 1, zero[..., 0], 8 * one, one, 0.0)


def covariance(mixture):
    factor = mixture.axes[0] * mixture.widths[0].unsqueeze(-2)
    return factor @ factor.mT


def test_a_correlated_gaussian_is_found_exactly(seed):
    """Its gradient is linear, so the regression has no noise. Variances may change fivefold in a round."""
    torch.manual_seed(seed)
    root = torch.randn(30, 30).double() / 8 + torch.eye(30).double()
    mean, true = torch.randn(30).double(), root @ root.mT
    result = fit_to_scores(joint_of(dist.MultivariateNormal(mean, true)), standard_mixture(3, 30), rounds=4)
    torch.testing.assert_close(result.location[0], mean.expand(3, 30), rtol=0, atol=1e-3)
    torch.testing.assert_close(covariance(result), true.expand(3, 30, 30), rtol=0, atol=1e-3)


def test_the_closest_normal_to_a_skewed_density(seed):
    """u ~ log Gamma(a): ∇ log p = a − e^u. KL(q‖p) is least where e^(m + s²/2) = a and s² = 1/a, for one latent and for many."""
    a = 4.0
    prior = dist.TransformedDistribution(
        dist.Gamma(torch.full((20,), a).double(), 1.0), [dist.transforms.ExpTransform().inv]
    ).to_event(1)
    torch.manual_seed(seed)
    result = fit_to_scores(joint_of(prior, points=200), standard_mixture(200, 20, at=1.0), rounds=4)
    variance = covariance(result).diagonal(dim1=-2, dim2=-1)
    assert abs(float(variance.median()) - 1 / a) < 0.02  # the gradient's tail is heavy: at a few points it says more
    assert abs(float(result.location.median()) - (math.log(a) - 1 / (2 * a))) < 0.02


def test_a_component_without_weight_stays_as_it_is():
    mixture = standard_mixture(3, 2)
    two = ModeMixture(
        mixture.location.repeat(2, 1, 1),
        mixture.axes.repeat(2, 1, 1, 1),
        mixture.widths.repeat(2, 1, 1),
        torch.stack([mixture.log_weights[0], torch.full((3,), -torch.inf).double()]),
        mixture.degrees_of_freedom,
        mixture.scale,
        0.0,
    )
    result = fit_to_scores(joint_of(dist.Normal(torch.ones(2).double(), 0.5).to_event(1)), two)
    assert torch.equal(result.location[1], two.location[1])
    assert (result.location[0] > 0.9).all()
