"""Transforms by name: from a source's numbers to x, with a base measure and a log-Jacobian.

Those of pixels stand in `pixel_transforms`, those of tables in `table_transforms`. What was fitted is written down with a run by
`Transform.state`, and read here.
"""

from typing import Any

import torch

from .pixel_transforms import Binarise, Dequantise, Levels, Logit, Threshold
from .table_transforms import DequantiseTable, Standardise
from .transform import Identity, Transform

__all__ = [
    "Binarise",
    "Dequantise",
    "DequantiseTable",
    "Identity",
    "Levels",
    "Logit",
    "Standardise",
    "Threshold",
    "Transform",
]

KINDS: dict[str, type[Transform]] = {
    kind.__name__: kind
    for kind in (Identity, Dequantise, DequantiseTable, Standardise, Logit, Binarise, Threshold, Levels)
}


def transform_from_state(state: dict[str, Any]) -> Transform:
    """The transform that `Transform.state` has written down. Raises `KeyError` or `TypeError` for what it has not."""
    settings = {**state}
    kind = KINDS[settings.pop("name")]
    if kind is Standardise:
        mean, sd = (torch.tensor(settings[name], dtype=torch.float64) for name in ("mean", "sd"))
        return Standardise(mean, sd, transform_from_state(settings["before"]))
    return kind(**settings)
