"""Pixels: Bernoulli log-densities by the short way, against the long way."""

import pyro.distributions as dist
import pytest
import torch

from pyrovae.likelihoods import Bernoulli


@pytest.mark.parametrize("dim", [1, 7, 16, 64, 784, 1040])
@pytest.mark.parametrize(
    ("batch", "points"),
    [((5, 4), (4,)), ((5, 1), (4,)), ((3,), (4, 1)), ((), (4,)), ((4,), (4,)), ((4,), ())],
    ids=["evidence", "naive", "mixture", "one η", "a row each", "one x"],
)
def test_by_both_ways(dim, batch, points):
    eta = 20 * torch.randn(*batch, dim).double()
    x = (torch.rand(*points, dim) > 0.5).double()
    expected = dist.Bernoulli(logits=eta).to_event(1).log_prob(x)
    with torch.no_grad():
        torch.testing.assert_close(Bernoulli()(eta).log_prob(x), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        Bernoulli()(eta).log_prob(x), expected, rtol=0, atol=0
    )  # with gradients, as torch has it


def test_expanded_as_plates_expand():
    eta, x = torch.randn(6, 1, 64).double(), (torch.rand(5, 64) > 0.5).double()
    expected = dist.Bernoulli(logits=eta).to_event(1).log_prob(x)
    with torch.no_grad():
        wide = Bernoulli()(eta).expand((6, 5))
        assert wide.batch_shape == (6, 5)
        torch.testing.assert_close(wide.log_prob(x), expected, rtol=0, atol=1e-10)
        wider = Bernoulli()(eta[0]).expand((6, 5))
        assert wider.log_prob(x).shape == (6, 5)
        torch.testing.assert_close(wider.log_prob(x), expected[:1].expand(6, 5), rtol=0, atol=1e-10)


def test_logits_beyond_the_exponential():
    eta = torch.tensor([[1e4, -1e4, 800.0, 0.0] * 16])
    x = (torch.rand(3, 64) > 0.5).float()
    with torch.no_grad():
        found = Bernoulli()(eta).log_prob(x)
    torch.testing.assert_close(found, dist.Bernoulli(logits=eta).to_event(1).log_prob(x))
