"""One noise for two devices, so that what they compute can be compared number by number."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


class NoiseOfTheProcessor(TorchDispatchMode):
    """Inside, random numbers are drawn on the CPU in double precision, and moved to where they are wanted.

    `torch.manual_seed` before it decides them, whatever the device and the type.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        dtype, device = kwargs.get("dtype"), kwargs.get("device")
        own = args[0] if isinstance(args[0], Tensor) else torch.empty(0, dtype=dtype, device=device)
        wanted = dict(kwargs)
        if device is not None:
            wanted["device"] = torch.device("cpu")
        if (dtype or own.dtype).is_floating_point and (dtype is not None or not isinstance(args[0], Tensor)):
            wanted["dtype"] = torch.float64
        wanted.pop("pin_memory", None)
        drawn = func(*tree_map_only(Tensor, _on_the_processor, args), **wanted)
        if func._schema.is_mutable:
            return args[0].copy_(drawn)
        return tree_map_only(Tensor, lambda value: _as(value, dtype or own.dtype, device or own.device), drawn)


def _on_the_processor(value: Tensor) -> Tensor:
    return value.to("cpu", torch.float64 if value.is_floating_point() else value.dtype)


def _as(value: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    return value.to(device, dtype if value.is_floating_point() else value.dtype)
