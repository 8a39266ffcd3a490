"""Draws in blocks."""

import pytest
import torch

from pyrovae import load
from pyrovae.posterior.batching import block_sizes, over_draws
from pyrovae.posterior.joint_density import Joint


@pytest.mark.parametrize(("count", "points"), [(256, 1), (256, 7000), (20_000, 64), (363, 10**6)])
def test_blocks_are_large_enough_for_the_share_of_the_prior(count, points):
    sizes = block_sizes(count, points)
    assert sum(sizes) == count
    assert min(sizes) >= 64
    assert max(sizes) * points <= max(2 * 2**15, 128 * points)


def test_draws_in_cached_parts_have_the_values_of_all_at_once():
    model, guide = load("ppca")(6, latent=3)
    with torch.no_grad():
        joint = Joint(model, guide, torch.randn(1500, 6))
        u = torch.randn(5, 1500, 3)
        calls = []

        def density(u):
            calls.append(len(u))
            return joint.log_prior_and_p(u)

        parts = over_draws(joint, density, u)
        whole = joint.log_prior_and_p(u)
    assert len(calls) == 1  # small points: a cache holds them all
    torch.testing.assert_close(parts, whole)
    wide, guide = load("ppca")(2000, latent=3)
    with torch.no_grad():
        joint = Joint(wide, guide, torch.randn(1500, 2000))
        calls.clear()
        parts = over_draws(joint, density, u)
        whole = joint.log_prior_and_p(u)
    assert calls == [1] * 5
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-2)
