"""What the estimators share that move latents: points in chunks that fit, settings that can be used, progress."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide
from ..pair.parameters import is_per_point
from .joint_density import Joint

NUMBERS = {"cpu": 2**20, "cuda": 2**27}  # numbers of x in flight, as many as fill a matrix product
LEAST_ROWS = 2048  # draws times points, where x is large

Result = TypeVar("Result")


def in_chunks(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, draws: int, work: Callable[[Joint, int], Result]
) -> list[Result]:
    """What `work` makes of one chunk of points after another, as many at once as `draws` rows of each are held in memory; a
    device that runs out of it gets half as many. `work` is told the place of its first point."""
    whole = is_per_point(guide, x)
    rows = max(LEAST_ROWS, NUMBERS.get(x.device.type, 2**20) // x[0].numel())
    chunk = len(x) if whole else max(1, rows // draws)
    done: list[Result] = []
    start = 0
    while start < len(x):
        points = x[start : start + chunk]
        try:
            done.append(work(Joint(model, guide, points), start))
        except torch.OutOfMemoryError:
            if whole or len(points) == 1:
                raise
            chunk = len(points) // 2
            continue
        start += len(points)
    return done


def checked(**settings: int) -> dict[str, int]:
    """The settings, if they are whole numbers that can be used."""
    for name, value in settings.items():
        least = 2 if name in ("num_chains", "num_samples") else 1
        if not isinstance(value, int) or value < least:
            why = ", so that the estimate has an error" if least == 2 else ""
            raise InvalidInputError(f"{name} is {value}: give a whole number, at least {least}{why}.")
    return settings


def share(on_progress: Callable[[float], None] | None, points: float) -> Callable[[float], None]:
    """Progress in points done, from the fraction of a chunk's work that is done."""
    return (lambda fraction: on_progress(fraction * points)) if on_progress is not None else (lambda fraction: None)
