"""Draws in blocks."""

import pytest

from pyrovae.posterior.batching import block_sizes


@pytest.mark.parametrize(("count", "points"), [(256, 1), (256, 7000), (20_000, 64), (363, 10**6)])
def test_blocks_are_large_enough_for_the_share_of_the_prior(count, points):
    sizes = block_sizes(count, points)
    assert sum(sizes) == count
    assert min(sizes) >= 64
    assert max(sizes) * points <= max(2 * 2**15, 128 * points)
