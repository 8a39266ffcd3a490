"""Supports that depend on the latent or on the data: draws that rule x out have weight 0."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyrovae
from pyrovae import InvalidInputError, evaluate, log_weights
from pyrovae.pair.supports import has_fixed_support, same_support


class Box(pyrovae.Module):
    """z ~ N(0, 1), x|z ~ U(z − 1, z + 1): p(x) = (Φ(x + 1) − Φ(x − 1)) / 2."""

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Uniform(z - 1, z + 1).to_event(1), obs=x)


class Near(pyrovae.Module):
    def __init__(self, scale=0.8):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, self.scale).to_event(1))


class Trials(pyrovae.Module):
    """y|z ~ Binomial(n, sigmoid(z)), n and y the columns of x."""

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("y", dist.Binomial(x[:, :1], logits=z).to_event(1), obs=x[:, 1:])


class Prior(pyrovae.Module):
    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.loc.expand(len(x), 1), 1.0).to_event(1))


def test_a_draw_that_rules_x_out_has_weight_zero(seed):
    torch.manual_seed(seed)
    x = torch.randn(40, 1).double()
    log_w = log_weights(Box(), Near().double(), x, 2000)
    assert bool((log_w == -math.inf).any())
    normal = torch.distributions.Normal(torch.zeros(1).double(), 1.0)
    exact = ((normal.cdf(x + 1) - normal.cdf(x - 1)) / 2).log().squeeze(-1)
    estimate = log_w.logsumexp(0) - math.log(2000)
    error = (log_w - estimate).exp().std(0) / 2000**0.5
    assert ((estimate - exact).abs() < 6 * error).all()
    result = evaluate(Box(), Near().double(), x, num_samples=2000)
    assert ((result.log_likelihood - exact).abs() < 6 * error).all()


def test_a_point_that_no_draw_allows_is_named():
    x = torch.cat([torch.zeros(3, 1), torch.full((1, 1), 50.0)])

    class Far(Near):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(x.clamp(max=1.0), self.scale).to_event(1))

    with pytest.raises((InvalidInputError, pyrovae.NonFiniteError), match="3"):
        evaluate(Box(), Far(0.1), x, num_samples=50)


def test_counts_beyond_their_trials_are_named():
    good = torch.tensor([[10.0, 3.0], [8.0, 8.0], [5.0, 0.0]])
    expected = log_weights(Trials(), Prior(), good, 20_000).exp().mean(0)
    z = torch.linspace(-8, 8, 4001).unsqueeze(-1)
    weights = dist.Normal(0.0, 1.0).log_prob(z).exp() * 16 / 4000
    exact = (weights * dist.Binomial(good[:, 0], logits=z).log_prob(good[:, 1]).exp()).sum(0)
    torch.testing.assert_close(expected, exact, rtol=0.05, atol=0)
    bad = torch.cat([good, torch.tensor([[5.0, 7.0]])])
    for run in (lambda: pyrovae.fit(Trials(), Prior(), bad, epochs=1), lambda: log_weights(Trials(), Prior(), bad)):
        with pytest.raises(
            InvalidInputError, match="Point 3 has the value 7 at site 'y', outside the support of Binomial"
        ):
            run()


def test_log_normalised_counts_are_told_what_counts_are():
    class Counts(pyrovae.Module):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
                pyro.sample("x", dist.Poisson(torch.cat([z, z], -1).exp()).to_event(1), obs=x)

    with pytest.raises(InvalidInputError, match="Give it raw counts, whole numbers from 0"):
        log_weights(Counts(), Prior(), torch.full((4, 2), 0.7))
    log_weights(Counts(), Prior(), torch.full((4, 2), 3.0))


def test_which_supports_are_fixed():
    one, two = (dist.Uniform(torch.zeros(2), torch.tensor([1.0, high])).to_event(1) for high in (1.0, 2.0))
    assert has_fixed_support(dist.Normal(torch.zeros(2), 1.0).to_event(1))
    assert not has_fixed_support(one)
    assert same_support(one, one)
    assert not same_support(one, two)
