"""Likelihoods of pixels: sums over levels and integrals are 1, and densities are other libraries'."""

import math

import pytest
import scipy.stats
import torch

import pyrovae
from pyrovae import check_pair, load
from pyrovae.data.transforms import Levels

LEVELS = {
    "categorical": lambda: pyrovae.likelihoods.Categorical(9),
    "logistic": lambda: pyrovae.likelihoods.DiscretisedLogistic(9),
    "mixture": lambda: pyrovae.likelihoods.LogisticMixture(9, 3),
}


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("size", [0.3, 3.0, 100.0])
def test_the_levels_probabilities_sum_to_one(kind, size, seed):
    """For any η, far ones too; every probability has a logarithm, and a gradient that is a number."""
    likelihood = LEVELS[kind]()
    eta = (size * torch.randn(40, likelihood.num_outputs(2)).double()).requires_grad_()
    grid = torch.arange(9).double() / 8
    each = torch.stack([likelihood(eta).base_dist.log_prob(level.expand(40, 2)) for level in grid])
    torch.testing.assert_close(each.exp().sum(0), torch.ones(40, 2).double(), rtol=1e-10, atol=1e-10)
    assert torch.isfinite(each).all()
    assert torch.isfinite(torch.autograd.grad(each.sum(), eta)[0]).all()


@pytest.mark.parametrize("kind", LEVELS)
def test_draws_and_means_are_the_probabilities(kind, seed):
    """Frequencies of 40,000 draws, 6 standard errors; the mean is Σ_j P(j) x_j."""
    likelihood = LEVELS[kind]()
    fn = likelihood(likelihood.initial_outputs(torch.tensor([0.3, 0.9]), torch.tensor([0.05, 0.02])).double())
    grid = torch.arange(9).double() / 8
    draws = fn.sample((40_000,))
    assert fn.support.check(draws).all()
    for level in grid:
        p = fn.base_dist.log_prob(level.expand(2)).exp()
        found = (draws == level).double().mean(0)
        assert ((found - p).abs() < 6 * (p * (1 - p) / 40_000).sqrt() + 1e-4).all()
    expected = sum(level * fn.base_dist.log_prob(level.expand(2)).exp() for level in grid)
    torch.testing.assert_close(fn.mean, expected)


def test_a_logistics_bins_are_differences_of_scipys_distribution_function():
    loc, log_scale = 0.4, 0.3
    likelihood = pyrovae.likelihoods.DiscretisedLogistic(9)
    fn = likelihood(torch.tensor([0.0, loc, log_scale], dtype=torch.float64))
    cdf = scipy.stats.logistic(loc * 8, math.exp(log_scale)).cdf
    for level in range(9):
        low = 0.0 if level == 0 else cdf(level - 0.5)
        high = 1.0 if level == 8 else cdf(level + 0.5)
        found = float(fn.log_prob(torch.tensor([level / 8]).double()).exp())
        assert found == pytest.approx(high - low, rel=1e-10)


def test_a_categorical_is_torchs():
    eta = torch.randn(6, 2 * 9).double()
    level = torch.randint(9, (6, 2))
    expected = torch.distributions.Categorical(logits=eta.reshape(6, 2, 9)).log_prob(level).sum(-1)
    torch.testing.assert_close(pyrovae.likelihoods.Categorical(9)(eta).log_prob(level / 8), expected)


def test_the_continuous_bernoulli_is_torchs_and_smooth_at_one_half():
    """log C = log 2 + 4/3 (λ − ½)² + 104/45 (λ − ½)⁴ near ½; torch's own elsewhere; the integral 1 everywhere."""
    likelihood = pyrovae.likelihoods.ContinuousBernoulli()
    x = torch.tensor([0.0, 0.2, 0.7, 1.0]).double()
    for logit in (-300.0, -30.0, -3.0, -0.5, 0.5, 3.0, 30.0):
        eta = torch.full((4, 1), logit, dtype=torch.float64)
        expected = torch.distributions.ContinuousBernoulli(logits=torch.tensor(logit, dtype=torch.float64)).log_prob(x)
        if abs(logit) < 30:  # torch's λ is cut off at its machine's epsilon
            torch.testing.assert_close(likelihood(eta).log_prob(x[:, None]), expected, rtol=1e-6, atol=1e-6)
        closed = x * logit - (
            logit + math.log(-math.expm1(-logit) / logit) if logit > 0 else math.log(math.expm1(logit) / logit)
        )
        torch.testing.assert_close(likelihood(eta).log_prob(x[:, None]), closed, rtol=1e-10, atol=1e-10)
    for logit in (0.0, 1e-9, 1e-3, -0.02, 0.0999, 0.1001):
        eta = torch.full((4, 1), logit, dtype=torch.float64).requires_grad_()
        shift = 1 / (1 + math.exp(-logit)) - 0.5
        log_c = math.log(2) + 4 / 3 * shift**2 + 104 / 45 * shift**4
        bernoulli = x * logit - math.log1p(math.exp(logit))
        found = likelihood(eta).log_prob(x[:, None])
        torch.testing.assert_close(found, bernoulli + log_c, rtol=1e-9, atol=2e-9)
        gradient = torch.autograd.grad(found.sum(), eta)[0]
        torch.testing.assert_close(gradient[:, 0], x - 0.5 - logit / 12, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["ContinuousBernoulli", "StudentT"])
def test_densities_integrate_to_one(name, seed):
    likelihood = getattr(pyrovae.likelihoods, name)()
    eta = 2 * torch.randn(5, likelihood.num_outputs(1)).double()
    unit = (torch.arange(200_000).double() + 0.5) / 200_000
    # a heavy tail is integrated in the angle whose tangent x is
    x, stretch = (unit, torch.ones_like(unit))
    if name == "StudentT":
        angle = (unit - 0.5) * math.pi
        x, stretch = angle.tan(), math.pi / angle.cos().square()
    with torch.no_grad():
        total = (likelihood(eta).log_prob(x[:, None, None]).exp() * stretch[:, None]).mean(0)
    torch.testing.assert_close(total, torch.ones(5).double(), rtol=1e-5, atol=1e-5)


def test_student_t_is_scipys():
    likelihood = pyrovae.likelihoods.StudentT().double()
    eta, x = torch.randn(6, 2).double(), torch.randn(6, 1).double()
    scale = (1e-3 + torch.nn.functional.softplus(eta[:, 1])).sqrt()
    expected = scipy.stats.t(5, eta[:, 0], scale).logpdf(x[:, 0])
    torch.testing.assert_close(likelihood(eta).log_prob(x), torch.as_tensor(expected), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    "name", ["StudentT", "ContinuousBernoulli", "Categorical", "DiscretisedLogistic", "LogisticMixture"]
)
def test_it_begins_at_the_datas_mean(name):
    likelihood = getattr(pyrovae.likelihoods, name)()
    mean = torch.tensor([0.2, 0.5, 0.7])
    fn = likelihood(likelihood.initial_outputs(mean, torch.tensor([0.005, 0.03, 0.01])))
    torch.testing.assert_close(fn.mean, mean, atol=0.02, rtol=0)


@pytest.mark.parametrize("kind", LEVELS)
def test_a_vae_of_levels_keeps_the_contract_and_counts(kind):
    torch.manual_seed(0)
    x = Levels(9)(torch.randint(9, (24, 6)).float())
    pair = load("vae")(6, latent=2, hidden=(8,), likelihood=LEVELS[kind]())
    check_pair(*pair, x)
    found = pyrovae.evaluate(*pair, x, num_samples=10, transform=Levels(9))
    assert found.metadata["base_measure"] == "counting on {0, 1/8, …, 1}^6"
    with pytest.raises(pyrovae.InvalidInputError, match="outside the support"):
        check_pair(*pair, (x + 0.03).clamp(max=1))


def test_densities_of_grey_pixels_keep_the_contract():
    x = torch.rand(24, 6)
    for likelihood in (pyrovae.likelihoods.ContinuousBernoulli(), pyrovae.likelihoods.StudentT()):
        check_pair(*load("vae")(6, latent=2, hidden=(8,), likelihood=likelihood), x)
    with pytest.raises(pyrovae.InvalidInputError, match="outside the support"):
        check_pair(*load("vae")(6, latent=2, likelihood=pyrovae.likelihoods.ContinuousBernoulli()), x + 1)


def test_levels_are_data_too():
    data = pyrovae.load_data("digits", transform="levels")
    assert set((data.test * 16).unique().tolist()) == set(range(17))
    assert data.transform.discrete
    assert float(data.transform.log_jacobian(data.test).abs().max()) == 0
    assert data.transform.likelihood == "LogisticMixture(17)"


def test_sizes_that_cannot_be_are_refused():
    for make in (
        lambda: pyrovae.likelihoods.Categorical(1),
        lambda: pyrovae.likelihoods.LogisticMixture(9, 0),
        lambda: pyrovae.likelihoods.StudentT(0),
    ):
        with pytest.raises(pyrovae.InvalidInputError):
            make()
