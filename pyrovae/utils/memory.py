"""Work that may be too much for the device's memory."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from .provenance import device_name

log = logging.getLogger("pyrovae")

Result = TypeVar("Result")


def unless_out_of_memory(
    work: Callable[..., Result], *arguments: object, device: torch.device, divisible: bool
) -> Result | None:
    """Return `work(*arguments)`, or None where the device has too little memory and the work is `divisible`.

    The caller then halves the work and tries again, which the log says. Work that cannot be halved raises the error.
    """
    try:
        return work(*arguments)
    except torch.OutOfMemoryError:
        if not divisible:
            raise
    if device.type == "cuda":  # outside of the handler, whose traceback holds on to the memory
        torch.cuda.empty_cache()
    log.warning("Memory ran out on %s: the work goes on with half as much at once.", device_name(device))
    return None
