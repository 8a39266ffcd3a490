"""Random draws that leave torch's random state as it was."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

from ..errors import check_int


@contextlib.contextmanager
def fork_rng(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Leave torch's random state as it was found; inside, start from `seed` if one is given.

    Raises `InvalidInputError` for a seed that is no whole number of at least 0.
    """
    if seed is not None:
        check_int("seed", seed, 0)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if seed is not None:
            torch.manual_seed(int(seed))
        yield


def derived_seed(seed: int, key: int) -> int:
    """The seed of one part of the work under `seed`: 64 bits that look like no other part's. `key` names the part."""
    return int(np.random.SeedSequence([seed, key]).generate_state(1, np.uint64)[0])


def random_rows(x: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """The indices of `count` rows of x, drawn without replacement and sorted; of all rows if there are no more."""
    with fork_rng(x.device, seed):
        return torch.randperm(len(x))[:count].sort().values
