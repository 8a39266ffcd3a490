"""Optimisers and learning-rate schedules, as `fit` takes them: functions that make torch's own objects."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler, SequentialLR

from ..errors import InvalidInputError

__all__ = ["Schedule", "adam", "cosine", "iwae_schedule", "with_warmup"]

Schedule = Callable[[Optimizer, int], LRScheduler]  # of an optimiser and the number of its steps


def adam(params: Iterable[Tensor], lr: float) -> Optimizer:
    """Adam, fused: one kernel for all parameters where Pyro's own wrapper keeps an optimiser for each."""
    return torch.optim.Adam(params, lr=lr, fused=True)


def cosine(optimizer: Optimizer, steps: int) -> LRScheduler:
    """The learning rate from its start to 0 along half a cosine (Loshchilov & Hutter 2017, eq. 5)."""
    return CosineAnnealingLR(optimizer, max(1, steps))


def iwae_schedule(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Eight stages, stage i of a length in proportion to 3^i at lr · 10^(−i/7): from lr down to lr/10 (Burda, Grosse &
    Salakhutdinov 2016, section 5, whose stages are of 3^i epochs, 3,280 in all)."""
    ends = [steps * (3 ** (i + 1) - 1) / (3**8 - 1) for i in range(8)]
    return LambdaLR(optimizer, lambda step: 10 ** (-min(7, sum(step >= end for end in ends)) / 7))


def with_warmup(schedule: Schedule | None = cosine, share: float = 0.05) -> Schedule:
    """The learning rate up from a hundredth of its start over the first `share` of the steps, then along `schedule`."""
    if not 0 < share < 1:
        raise InvalidInputError(
            f"share is {share}: give the part of the steps in which the learning rate rises, between 0 and 1."
        )

    def warmed_schedule(optimizer: Optimizer, steps: int) -> LRScheduler:
        rise = max(1, math.ceil(share * steps))
        ramp = LinearLR(optimizer, start_factor=0.01, total_iters=rise)
        after = schedule(optimizer, max(1, steps - rise)) if schedule else LambdaLR(optimizer, lambda step: 1.0)
        return SequentialLR(optimizer, [ramp, after], milestones=[rise])

    return warmed_schedule
