"""Everything that the next step of a fit depends on, taken down and put back."""

import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import InvalidInputError, in_one_line
from ..pair.execution import modules
from .step import adam_state

if TYPE_CHECKING:
    from .trainer import Trainer


def snapshot(course: "Trainer") -> dict[str, Any]:
    """Everything that the next step depends on, in tensors, numbers, texts and containers of these."""
    learner = course.learner
    if learner.on_vector:
        adam_state(learner)
    held = torch.cuda.get_rng_state(course.device) if course.device.type == "cuda" else None
    return {
        "task": course.task,
        "vector": learner.flat.vector.detach().clone(),
        "held": [value.detach().clone() for value in _held(course)],
        "optimizer": _cloned(learner.optimizer.state_dict()["state"]),
        "average": None if learner.average is None else learner.average.clone(),
        "taken": learner.taken,
        "rng": (torch.get_rng_state(), held),
        "epoch": course.epoch,
        "place": course.place,
        "sums": list(course.sums),
        "roads": _cloned(course.executions),
        "lr": course.lr,
        "kl_weight": float(course.beta),
        "early_stopping": None if course.early_stopping is None else course.early_stopping.state(),
        "result": _cloned(vars(course.result)),
    }


def restore(course: "Trainer", state: dict[str, Any]) -> None:
    """Stand where `state` was taken. Raises `InvalidInputError` where it is another training's."""
    learner, flat = course.learner, course.learner.flat
    began = state.get("task", {})
    for name, value in course.task.items():
        if name == "objective" and began and name not in began:  # written before it was told
            continue
        if began.get(name) != value:
            raise InvalidInputError(
                f"The checkpoint is of a training with other {name}: resume with what it was begun with."
            )
    try:
        flat.set(state["vector"])
        with torch.no_grad():
            for own, value in zip(_held(course), state["held"], strict=True):
                if own.shape != value.shape:
                    raise ValueError(f"a buffer is {tuple(value.shape)} there, {tuple(own.shape)} here")
                own.copy_(value)
        course.lr = state["lr"]
        learner.optimizer = course.new_optimizer(flat)
        groups = learner.optimizer.state_dict()["param_groups"]  # what they are now, the schedule finds again
        learner.optimizer.load_state_dict({"state": _cloned(state["optimizer"]), "param_groups": groups})
        course.new_schedule(state["result"]["steps"])
        if learner.average is not None:
            learner.average.copy_(state["average"])
        learner.taken = state["taken"]
        course.epoch, course.place, course.sums = state["epoch"], state["place"], list(state["sums"])
        course.executions, course.steps = _cloned(state["roads"]), {}
        course.beta.fill_(state["kl_weight"])
        if course.early_stopping is not None:
            course.early_stopping.load(_cloned(state["early_stopping"]))
        course.result = type(course.result)(**_cloned(state["result"]))
        course.before, course.started = course.result.seconds, time.perf_counter()
        cpu, cuda = state["rng"]
        torch.set_rng_state(cpu.cpu())
        if cuda is not None and course.device.type == "cuda":
            torch.cuda.set_rng_state(cuda.cpu(), course.device)
    except torch.OutOfMemoryError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InvalidInputError(
            f"The checkpoint is of another training and cannot be resumed: {type(error).__name__}: {in_one_line(error)}"
        ) from error


def _held(course: "Trainer") -> list[Tensor]:
    """What the pair has besides what is trained: buffers, and parameters that stay as they are."""
    return [
        value
        for module in modules(course.model, course.guide)
        for value in [*module.buffers(), *(part for part in module.parameters() if not part.requires_grad)]
    ]


def _cloned(value: Any) -> Any:
    """A copy that later steps do not change."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _cloned(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_cloned(part) for part in value)
    return value
