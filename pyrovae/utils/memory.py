"""Work that may be too much for the device's memory."""

from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


def unless_out_of_memory(
    work: Callable[..., Result], *arguments: object, device: torch.device, divisible: bool
) -> Result | None:
    """Return `work(*arguments)`, or None where the device has too little memory and the work is `divisible`.

    The caller then halves the work and tries again. Work that cannot be halved raises the error.
    """
    try:
        return work(*arguments)
    except torch.OutOfMemoryError:
        if not divisible:
            raise
    if device.type == "cuda":  # outside of the handler, whose traceback holds on to the memory
        torch.cuda.empty_cache()
    return None
