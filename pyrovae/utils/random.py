"""Torch's random state, left as it was found."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def fork_rng(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Leave torch's random state as it was found; inside, start from `seed` if one is given."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if seed is not None:
            torch.manual_seed(seed)
        yield
