"""Flows: the ELBO is log p(x) itself; Jacobians against autograd, densities against Pyro's own transformed distribution."""

import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyrovae.models.flow import Autoregressive, Coupling, Linear, Spline

import pyrovae
from pyrovae import check_pair, evaluate, fit, load, log_weights

KINDS = pytest.mark.parametrize("transform", [Linear, Autoregressive, Coupling, Spline])


def trained(transform, seed, dim=5, epochs=30):
    """A flow away from its start, in double precision."""
    torch.manual_seed(seed)
    x = (torch.randn(60, dim) @ torch.randn(dim, dim)).double()
    x = x + 0.3 * x.roll(1, dims=1).square()
    model, guide = load("flow")(dim, transform=transform, hidden=(12,))
    model.double()
    fit(model, guide, x, epochs=epochs, batch_size=None, lr=0.02, seed=seed)
    return model, guide, x


@KINDS
def test_elbo_is_log_p(transform, seed):
    """The theorem: every weight is log p(x), so is Pyro's ELBO, and so is the density of f(z) as Pyro computes it."""
    model, guide, x = trained(transform, seed)
    log_p = model.log_prob(x).detach()
    torch.testing.assert_close(log_weights(model, guide, x, 3), log_p.expand(3, 60), rtol=0, atol=1e-10)
    assert Trace_ELBO().loss(model, guide, x) == pytest.approx(-log_p.sum().item(), rel=1e-10)
    transformed = dist.TransformedDistribution(model.prior(), model.inverse().inv)
    torch.testing.assert_close(transformed.log_prob(x), log_p, rtol=0, atol=1e-8)
    check_pair(model, guide, x)


@KINDS
def test_jacobian_is_autograds(transform, seed):
    model, _, x = trained(transform, seed)
    z, log_det = model.encode(x[:6])
    jacobian = [torch.autograd.functional.jacobian(lambda y: model.encode(y)[0], point) for point in x[:6]]
    expected = torch.linalg.slogdet(torch.stack(jacobian)).logabsdet
    torch.testing.assert_close(log_det, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(model.decode(z), x[:6], rtol=1e-7, atol=1e-7)  # two inverses, one after another


@KINDS
def test_density_sums_to_one(transform, seed):
    """In two dimensions, by the midpoint rule, whose own error is below 0.002 here."""
    model, _, x = trained(transform, seed, dim=2, epochs=10)
    centre, spread = x.mean(0), x.std(0)
    axis = (torch.arange(400).double() + 0.5) / 400 * 2 - 1
    half = 8 * spread
    grid = centre + half * torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        total = (model.log_prob(grid) + (2 * half / 400).log().sum()).exp().sum()
    assert total.item() == pytest.approx(1.0, abs=2e-3)


@KINDS
def test_draws_follow_the_density(transform, seed):
    """E log p(x) over draws is −½ E|z|² − D/2 log 2π + E log|det|, whose z are those that made the draws: f is what f⁻¹ undoes, and
    z is white. 6 standard errors."""
    model, _, x = trained(transform, seed)
    draws = pyrovae.sample(model, 4000, x)
    with torch.no_grad():
        z = model.encode(draws)[0]
    assert (z.mean(0).abs() < 6 / 4000**0.5).all()
    assert ((torch.cov(z.mT) - torch.eye(5)).abs() < 6 * (2 / 4000) ** 0.5).all()


def test_a_linear_flow_is_the_gaussian(seed):
    """From a start away from it, to within 0.01 nat of the maximum of the likelihood in closed form."""
    torch.manual_seed(seed)
    x = torch.randn(200, 4) @ torch.randn(4, 4) + 2
    gaussian, nothing = load("gaussian")(4, floor=1e-6)
    fit(gaussian, nothing, x, epochs=0)
    model, guide = load("flow")(4, transform=Linear, layers=1)
    with torch.no_grad():
        model.loc.copy_(x.mean(0))
        model.initialised.fill_(True)
    fit(model, guide, x, epochs=800, batch_size=None, lr=0.05)
    assert model.log_prob(x).mean().item() == pytest.approx(gaussian.log_prob(x).mean().item(), abs=0.01)


@pytest.mark.slow
def test_on_digits_it_beats_the_gaussian():
    """The start is the Gaussian, or nearly; a paired difference on held-out digits, after a part of the recipe."""
    data = pyrovae.load_data("digits")
    gaussian, nothing = load("gaussian")(64)
    fit(gaussian, nothing, data.train, epochs=0)
    model, guide = load("flow")(64)
    fit(model, guide, data.train, epochs=15, batch_size=128, lr=1e-3)
    pairs = {"flow": (model, guide), "gaussian": (gaussian, nothing)}
    value, _, data_se = pyrovae.compare(pairs, data.test, num_samples=2).difference("flow", "gaussian")
    assert value > 2 * data_se > 0


def test_another_guide_has_no_weight():
    """A draw that is not f⁻¹(x) cannot have made x."""
    model, guide, x = trained(Coupling, 0)
    guide = pyrovae.guides.MeanField(5, 5).double()
    assert bool((log_weights(model, guide, x) == -torch.inf).all())
    with pytest.raises(pyrovae.InvalidInputError, match="All 5 weights of data point 0 are zero"):
        evaluate(model, guide, x, num_samples=5)
    model, guide, x = trained(Coupling, 0)
    assert evaluate(model, guide, x, num_samples=5).gap.abs().max() < 1e-9


def test_bad_options():
    with pytest.raises(pyrovae.InvalidInputError, match="A flow of 0 layers over 3 numbers"):
        load("flow")(3, layers=0)
    with pytest.raises(pyrovae.InvalidInputError, match="A flow of 2 layers over 1 numbers"):
        load("flow")(1)
