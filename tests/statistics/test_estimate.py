"""Means over points, against simulations whose truth is known."""

import math

import torch

from pyrovae.statistics.estimate import without_logarithm_bias


def test_half_the_variance_is_what_a_logarithm_loses(seed) -> None:
    """p̂ is the mean of 50 lognormal weights of mean 1, so log p is 0. The mean of log p̂ is too low by more than 10 errors."""
    generator = torch.Generator().manual_seed(seed)
    weights = (0.7 * torch.randn(50, 40_000, generator=generator) - 0.245).exp().double()
    log_p = weights.mean(0).log()
    se = weights.std(0) / math.sqrt(50) / weights.mean(0)
    error = float(log_p.std()) / math.sqrt(40_000)
    assert float(log_p.mean()) < -10 * error
    # the third order is left over: a twentieth of the loss
    assert abs(float(without_logarithm_bias(log_p, se).mean())) < 0.05 * abs(float(log_p.mean())) + 6 * error
