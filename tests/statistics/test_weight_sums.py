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
