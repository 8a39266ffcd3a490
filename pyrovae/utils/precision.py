"""Whether low precision is worth it on a device: decided by a measurement of some milliseconds, once for each device and type."""

import contextlib
import functools
import logging
import time
from collections.abc import Iterator

import torch

from ..errors import InvalidInputError, in_one_line
from .distributed import ProcessGroup
from .provenance import dtype_name

log = logging.getLogger("pyrovae")

# Rows and columns of the square matrices that are multiplied. The small ones come first where there are two: a processor that
# has to emulate a type takes tens of times as long, and need not be waited for twice.
SIZES = {"cpu": (128, 512), "cuda": (2048,)}
HOPELESS = 2.0  # times as long as in float32
ROUNDS = 3


def usable(dtype: torch.dtype | None, x: torch.Tensor) -> torch.dtype | None:
    """Return the dtype if its matrix products are faster than those of float32 where x is; else None, with a warning.

    Processes of a group do as the first one does.
    """
    if dtype is None:
        return None
    reason = reason_against(x.device, dtype)
    if ProcessGroup().broadcast(float(reason is None)):
        return dtype
    if reason is not None:
        log.warning("%s, so all weights are computed in %s.", reason, dtype_name(x.dtype))
    return None


def check_low_precision(dtype: torch.dtype, device: torch.device) -> None:
    """Raise `InvalidInputError` where training in this dtype would gain nothing. Processes of a group do as the first one does."""
    reason = reason_against(device, dtype)
    if ProcessGroup().broadcast(float(reason is not None)):
        reason = reason or f"{dtype_name(dtype)} is not used by the first process"
        raise InvalidInputError(
            f"{reason[0].upper()}{reason[1:]}, so training in it would be no faster: use precision='fp32'."
        )


def check_device(device: torch.device) -> None:
    """Raise `InvalidInputError` for a device without double precision, which statistics and data need."""
    if device.type == "mps":
        raise InvalidInputError(
            "Apple's GPUs (mps) have no double precision, which pyrovae needs: use --device cpu, or move model, guide and x "
            "there with .to('cpu')."
        )


@contextlib.contextmanager
def tf32_products(wanted: bool) -> Iterator[None]:
    """TF32 for products of float32 matrices, or not for convolutions, where torch would take it by itself. Afterwards all is as before."""
    before, before_cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    if wanted:
        torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = wanted
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = before_cudnn


@functools.cache
def reason_against(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why matrix products in dtype are not to be used on the device, as the beginning of a sentence; None: they are faster."""
    name, place = dtype_name(dtype), "GPU" if device.type == "cuda" else "processor"
    try:
        for size in SIZES.get(device.type, SIZES["cpu"]):
            full, low = seconds(size, device, dtype)
            if low > HOPELESS * full:
                break
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        return f"{name} matrix products cannot be computed on this {place} ({in_one_line(error)[:160]})"
    return None if low < full else f"{name} matrix products are not faster than float32 on this {place}"


def seconds(size: int, device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Time a product of two float32 matrices, as it is and in low precision: the least of a few rounds each.

    The rounds take turns, so that what disturbs the machine disturbs both.
    """
    a = torch.full((size, size), 0.5, device=device)  # not drawn: evaluation's noise stays what it is
    times: dict[torch.dtype | None, list[float]] = {None: [], dtype: []}
    with torch.no_grad():
        for _ in range(1 + ROUNDS):
            for kind, taken in times.items():
                _wait(device)
                started = time.perf_counter()
                with autocast_to(device, kind):
                    a @ a
                _wait(device)
                taken.append(time.perf_counter() - started)
    full, low = (min(taken[1:]) for taken in times.values())  # the first warms up
    return full, low


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def autocast_to(device: torch.device, dtype: torch.dtype | None) -> Iterator[None]:
    """Matrix products in `dtype`, None: in the type of what is multiplied."""
    with torch.autocast(device.type, dtype=dtype) if dtype is not None else contextlib.nullcontext():
        yield
