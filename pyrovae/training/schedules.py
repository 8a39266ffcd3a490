"""Optimisers and learning-rate schedules, as `fit` takes them: functions that make torch's own objects."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler, SequentialLR

from ..errors import InvalidInputError

__all__ = ["Schedule", "adam", "cosine", "iwae_schedule", "with_warmup"]

Schedule = Callable[[Optimizer, int], LRScheduler]  # of an optimiser and the number of its steps


def adam(
    params: Iterable[Tensor], lr: float, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
) -> Optimizer:
    """Return torch's Adam, fused: one kernel for all parameters.

    `fit` compiles it together with the gradient. For that, give other settings as `functools.partial(adam, eps=1e-4)`.

    Args:
        params: The parameters.
        lr: The learning rate.
        betas: β₁ and β₂, the decays of both moments.
        eps: ε, beside the square root of the second moment. Gradients are sums over the batch.

    Example:
        >>> import functools, pyrovae
        >>> optimizer = functools.partial(pyrovae.schedules.adam, eps=1e-4)  # for fit(optimizer=...)
    """
    return torch.optim.Adam(params, lr=lr, betas=betas, eps=eps, fused=True)


def is_adam(optimizer: Any) -> bool:
    """Whether it is `adam`, or a `functools.partial` of it."""
    return getattr(optimizer, "func", optimizer) is adam


def cosine(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Take the learning rate from its start to 0 along half a cosine.

    Args:
        optimizer: torch's optimiser.
        steps: The number of training steps.

    References:
        Loshchilov & Hutter (2017). SGDR. Equation 5.
    """
    return CosineAnnealingLR(optimizer, max(1, steps))


def iwae_schedule(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Take the learning rate from lr to lr/10 in eight stages. Stage i has lr · 10^(−i/7).

    The length of stage i is proportional to 3^i. In the paper it has 3^i epochs, 3,280 in all.

    Args:
        optimizer: torch's optimiser.
        steps: The number of training steps.

    References:
        Burda, Grosse & Salakhutdinov (2016). Importance weighted autoencoders. Section 5.
    """
    ends = [steps * (3 ** (i + 1) - 1) / (3**8 - 1) for i in range(8)]
    return LambdaLR(optimizer, lambda step: 10 ** (-min(7, sum(step >= end for end in ends)) / 7))


def with_warmup(schedule: Schedule | None = cosine, share: float = 0.05) -> Schedule:
    """Raise the learning rate from a hundredth of its start, then follow `schedule`.

    Args:
        schedule: The schedule after the rise; None keeps the learning rate.
        share: The fraction of the steps in which the rate rises, between 0 and 1.

    Returns:
        A schedule, a function of (optimizer, steps).

    Raises:
        InvalidInputError: `share` is not between 0 and 1.

    Example:
        >>> import pyrovae
        >>> schedule = pyrovae.schedules.with_warmup(pyrovae.schedules.cosine, share=0.1)  # for fit(schedule=...)
    """
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


SCHEDULES: dict[str, Schedule | None] = {
    "cosine": cosine,
    "iwae_schedule": iwae_schedule,
    "with_warmup": with_warmup(),
    "constant": None,
}
