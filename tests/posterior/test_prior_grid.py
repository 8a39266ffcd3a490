"""p(z) of two latents on a grid, against densities written out."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyrovae
from pyrovae.posterior.prior_grid import prior_density

SPANS = ((-6.0, 6.0), (-5.0, 5.0))


def places(density):
    return torch.stack(torch.meshgrid(density.across, density.up, indexing="xy"), -1)


def normal(z, loc, scale):
    return (-0.5 * ((z - loc) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)).sum(-1)


def test_a_mixture_without_the_latents_that_are_not_shown(seed):
    torch.manual_seed(seed)
    model, _ = pyrovae.load("vae")(5, latent=3, hidden=(4,), prior=pyrovae.priors.MixtureOfGaussians(2))
    with torch.no_grad():
        model.prior.loc.normal_()
        model.prior.logits.copy_(torch.tensor([0.3, 0.7]).log())
    found = prior_density(model, torch.rand(4, 5), (2, 0), SPANS)
    parts = model.prior(torch.rand(1, 5))
    loc, scale = (value.detach().double()[:, [2, 0]] for value in (parts.locs, parts.coord_scale))
    each = torch.stack([normal(places(found), m, s) for m, s in zip(loc, scale, strict=True)])
    expected = (each + torch.tensor([0.3, 0.7]).double().log()[:, None, None]).logsumexp(0)
    torch.testing.assert_close(found.log_density, expected, rtol=0, atol=1e-4)


def test_a_vamp_prior_is_the_mean_of_its_posteriors(seed):
    torch.manual_seed(seed)
    model, guide = pyrovae.load("vae")(5, latent=3, hidden=(4,), prior=pyrovae.priors.VampPrior(3))
    found = prior_density(model, torch.rand(4, 5), (0, 1), SPANS)
    q = guide.distribution(guide.encoder(model.prior.inputs)).base_dist
    each = torch.stack(
        [
            normal(places(found), m[:2], s[:2])
            for m, s in zip(q.loc.detach().double(), q.scale.detach().double(), strict=True)
        ]
    )
    torch.testing.assert_close(found.log_density, each.logsumexp(0) - math.log(3), rtol=0, atol=1e-4)


def test_any_density_of_two_latents_is_known():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Laplace(x.new_zeros(2), torch.tensor([1.0, 2.0])).to_event(1))

    found = prior_density(model, torch.zeros(3, 2), (1, 0), SPANS)
    expected = torch.distributions.Laplace(0.0, torch.tensor([2.0, 1.0])).log_prob(places(found)).sum(-1)
    torch.testing.assert_close(found.log_density, expected, rtol=0, atol=1e-5)


def test_a_prior_that_depends_on_x_is_none(seed):
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 1.0).to_event(1))

    assert prior_density(model, torch.tensor([[0.0, 0.0], [1.0, 0.0]]), (0, 1), SPANS) is None
    model, _ = pyrovae.load("vae")(5, latent=3, hidden=(4,), prior=pyrovae.priors.FlowPrior(2))
    assert prior_density(model, torch.rand(4, 5), (0, 1), SPANS) is None  # three latents: the third has no closed form
    autoencoder, _ = pyrovae.load("autoencoder")(5, latent=2, hidden=())
    assert prior_density(autoencoder, torch.rand(4, 5), (0, 1), SPANS) is None


@pytest.mark.parametrize("mass", [0.5, 0.9])
def test_the_level_has_that_mass_inside(mass):
    model, _ = pyrovae.load("ppca")(4, latent=2)
    found = prior_density(model, torch.zeros(2, 4), (0, 1), SPANS)
    radius = -2 * math.log(1 - mass)  # squared
    assert found.level(mass) == pytest.approx(-0.5 * radius - math.log(2 * math.pi), abs=0.01)
