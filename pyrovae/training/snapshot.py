"""Everything that the next step of a fit depends on, taken down and put back."""

import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import Refusal
from ..running import in_one_line, modules
from .step import adam_state

if TYPE_CHECKING:
    from .course import Course


def take(course: "Course") -> dict[str, Any]:
    """Everything that the next step depends on, in tensors, numbers, texts and containers of these."""
    learner = course.learner
    if learner.on_vector:
        adam_state(learner)
    held = torch.cuda.get_rng_state(course.device) if course.device.type == "cuda" else None
    return {
        "vector": learner.flat.vector.detach().clone(),
        "buffers": [buffer.clone() for module in modules(course.model, course.guide) for buffer in module.buffers()],
        "optimizer": _cloned(learner.optimizer.state_dict()),
        "average": None if learner.average is None else learner.average.clone(),
        "taken": learner.taken,
        "rng": (torch.get_rng_state(), held),
        "epoch": course.epoch,
        "place": course.place,
        "sums": list(course.sums),
        "roads": dict(course.roads),
        "lr": course.lr,
        "beta": float(course.beta),
        "early_stopping": None if course.early_stopping is None else course.early_stopping.state(),
        "fit": _cloned(vars(course.fit)),
    }


def put_back(course: "Course", state: dict[str, Any]) -> None:
    """Stand where `state` was taken. Raises `Refusal` where it is another training's."""
    learner, flat = course.learner, course.learner.flat
    try:
        if state["vector"].shape != flat.vector.shape:
            raise ValueError(f"{state['vector'].numel()} parameters, and the pair has {flat.vector.numel()}")
        flat.set(state["vector"])
        with torch.no_grad():
            own = [buffer for module in modules(course.model, course.guide) for buffer in module.buffers()]
            for buffer, value in zip(own, state["buffers"], strict=True):
                buffer.copy_(value)
        course.lr = state["lr"]
        learner.optimizer = course.new_optimizer(flat)
        course.new_schedule(state["fit"]["steps"])
        learner.optimizer.load_state_dict(state["optimizer"])
        if learner.average is not None:
            learner.average.copy_(state["average"])
        learner.taken = state["taken"]
        course.epoch, course.place, course.sums = state["epoch"], state["place"], list(state["sums"])
        course.roads, course.steps = dict(state["roads"]), {}
        course.beta.fill_(state["beta"])
        if course.early_stopping is not None:
            course.early_stopping.load(state["early_stopping"])
        course.fit = type(course.fit)(**_cloned(state["fit"]))
        course.before, course.started = course.fit.seconds, time.perf_counter()
        cpu, cuda = state["rng"]
        torch.set_rng_state(cpu.cpu())
        if cuda is not None and course.device.type == "cuda":
            torch.cuda.set_rng_state(cuda.cpu(), course.device)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise Refusal(f"The checkpoint is of another training: {in_one_line(error)}") from error


def _cloned(value: Any) -> Any:
    """A copy that later steps do not change."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _cloned(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_cloned(part) for part in value)
    return value
