"""What `fit` takes as optimiser and schedule, made into functions that make torch's own objects."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from pyro.optim.lr_scheduler import PyroLRScheduler
from pyro.optim.optim import PyroOptim
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ..errors import InvalidInputError, did_you_mean, user_code_errors
from .schedules import SCHEDULES, Schedule, is_adam

MakeOptimizer = Callable[[Iterable[Tensor], float], Optimizer]


def resolve_optimizer(optimizer: Any, lr: float) -> tuple[MakeOptimizer, float]:
    """Return a function of (params, lr), and the learning rate, of what a caller gives as `optimizer`.

    An object of `pyro.optim` has a learning rate of its own, which then counts in place of `lr`.

    Raises `InvalidInputError` for what is no function, and for objects that belong to other parameters.
    """
    if isinstance(optimizer, PyroLRScheduler):
        raise InvalidInputError(
            "optimizer is a scheduler of pyro.optim, which steps for each parameter: give its optimiser as optimizer=, such as "
            "torch.optim.Adam, and torch's scheduler as schedule=."
        )
    if isinstance(optimizer, PyroOptim):
        return _of_pyro(optimizer, lr)
    if isinstance(optimizer, Optimizer):
        kind = type(optimizer).__name__
        raise InvalidInputError(
            f"optimizer is an object of {kind} and has parameters already: give the class, {kind}, or a function of (params, lr)."
        )
    if not callable(optimizer):
        raise InvalidInputError(
            f"optimizer is {optimizer!r:.40}: give a class such as torch.optim.Adam, a function of (params, lr), or an object of "
            "pyro.optim."
        )
    return optimizer, lr


def _of_pyro(optimizer: PyroOptim, lr: float) -> tuple[MakeOptimizer, float]:
    arguments, make = optimizer.pt_optim_args, optimizer.pt_optim_constructor
    if not isinstance(arguments, dict):
        raise InvalidInputError(
            "optimizer has other arguments for each parameter: give one dictionary for all, such as pyro.optim.Adam({'lr': 1e-3})."
        )
    if optimizer.pt_clip_args:
        raise InvalidInputError("optimizer has clip_args: leave them out, and give fit max_grad_norm, in nats a point.")
    if "lr" not in inspect.signature(make).parameters:
        raise InvalidInputError(
            f"{make.__name__} has no learning rate, which schedules change: give another optimiser, such as torch.optim.Adam."
        )
    others = {key: value for key, value in arguments.items() if key != "lr"}
    return lambda params, rate: make(params, lr=rate, **others), float(arguments.get("lr", lr))


def make_optimizer(make: MakeOptimizer, leaves: list[Tensor], lr: float) -> Optimizer:
    """Make the optimiser. Raises `InvalidInputError` where it fails, or needs the loss several times in a step."""
    if is_adam(make):
        return make(leaves, lr)
    with user_code_errors("optimizer(params, lr)"):
        optimizer = make(leaves, lr)
    if not isinstance(optimizer, Optimizer):
        raise InvalidInputError(f"optimizer(params, lr) returned {optimizer!r:.40}: return a torch optimiser.")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise InvalidInputError(
            f"{type(optimizer).__name__} computes the loss several times in a step, and an ELBO is drawn anew each time: give "
            "another optimiser, such as torch.optim.Adam."
        )
    return optimizer


def resolve_schedule(schedule: Any) -> Schedule | None:
    """Return the function of (optimizer, steps) that `schedule` is, or names, or None for a constant learning rate."""
    if isinstance(schedule, str):
        if schedule not in SCHEDULES:
            raise InvalidInputError(
                f"There is no schedule '{schedule}'{did_you_mean(schedule, SCHEDULES)}: give one of {', '.join(SCHEDULES)}, or a "
                "function of (optimizer, steps)."
            )
        return SCHEDULES[schedule]
    if schedule is not None and not callable(schedule):
        raise InvalidInputError(
            f"schedule is {schedule!r:.40}: give a function of (optimizer, steps), such as lambda optimizer, steps: "
            "torch.optim.lr_scheduler.StepLR(optimizer, steps // 3)."
        )
    if isinstance(schedule, type) and issubclass(schedule, ReduceLROnPlateau):
        return lambda optimizer, steps: schedule(optimizer)  # it does not ask how many steps there will be
    return schedule


def make_schedule(make: Schedule, optimizer: Optimizer, steps: int) -> LRScheduler:
    """Make the schedule. Raises `InvalidInputError` where that fails."""
    with user_code_errors("schedule(optimizer, steps)"):
        schedule = make(optimizer, steps)
    if not isinstance(schedule, LRScheduler):
        raise InvalidInputError(f"schedule(optimizer, steps) returned {schedule!r:.40}: return a torch scheduler.")
    if isinstance(schedule, ReduceLROnPlateau) and schedule.mode != "min":
        raise InvalidInputError("ReduceLROnPlateau is given the loss, which falls: leave mode='max' out.")
    return schedule


def plateau_metric(row: dict[str, float]) -> float:
    """What `ReduceLROnPlateau` looks at after an epoch: −ELBO of points held out, or else the loss."""
    validation = row["validation_elbo"]
    return row["loss"] if validation != validation else -validation
