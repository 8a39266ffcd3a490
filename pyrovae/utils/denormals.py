"""Numbers too small for the usual format, which processors compute with slowly."""

import contextlib
import sys
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def flush_denormals() -> Iterator[None]:
    """Take numbers below the smallest normal one, 1.2e-38 in single precision, as 0 in this thread.

    A product with such numbers takes up to ten times as long. Responsibilities of far components are full of them, and no sum of
    float32 notices them. torch changes the calling thread alone, so with several threads some work stays slow.
    """
    smallest = sys.float_info.min
    was_flushing = smallest / 2 == 0  # torch does not say
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_flushing)
