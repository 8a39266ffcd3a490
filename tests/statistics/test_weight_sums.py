"""Sums over blocks of weights are those of all weights at once."""

import torch

from pyrovae.statistics import log_weights
from pyrovae.statistics.weight_sums import WeightSums


def test_blocks_have_the_statistics_of_all_weights_at_once():
    log_w = 3 * torch.randn(1000, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 2000
    sums = WeightSums.of(log_w[:300]).joined(WeightSums.of(log_w[300:]))
    for name in ("log_likelihood", "log_likelihood_se", "ess"):
        expected = getattr(log_weights, name)(log_w)
        torch.testing.assert_close(getattr(sums, name), expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(getattr(sums.subset(torch.arange(7) > 4), name), expected[5:], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(sums.largest_weight, log_w.softmax(0).amax(0))
    r = (log_w - sums.log_likelihood).exp()
    second = r.square().mean(0)
    influence = r.square() - second - 2 * second * (r - 1)  # of a draw on the mean square of r
    expected = (influence.square().mean(0) / 1000).sqrt()
    torch.testing.assert_close(sums.relative_variance_se, expected, rtol=1e-8, atol=1e-9)


def test_the_error_of_the_variance_is_the_spread_over_repetitions():
    """Weights of a Gamma distribution, 4,000 times 400 of them: to a tenth."""
    torch.manual_seed(0)
    log_w = torch.distributions.Gamma(4.0, 1.0).sample((400, 4000)).double().log()
    sums = WeightSums.of(log_w)
    torch.testing.assert_close(sums.relative_variance_se.mean(), sums.relative_variance.std(), rtol=0.1, atol=0)


def test_weights_that_are_all_zero_have_no_likelihood():
    sums = WeightSums.of(torch.full((5, 2), -torch.inf).double())
    assert (sums.log_likelihood == -torch.inf).all()
