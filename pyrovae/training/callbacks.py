"""What `fit` calls while it trains: at the start, after steps and epochs, and at the end."""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from ..errors import InvalidInputError, RunError, did_you_mean, in_one_line, is_out_of_memory
from ..missing import assume_missing
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..utils.random import fork_rng
from .result import FitResult
from .state import TrainingState

log = logging.getLogger("pyrovae")


class CallbackError(RunError):
    """A callback failed, and training ended there. The pair keeps its parameters; `result` is the training so far."""

    def __init__(self, message: str, result: FitResult):
        super().__init__(message)
        self.result = result


class Training:
    """A training as its callbacks see it.

    Attributes:
        model: The model, with the parameters that it has now.
        guide: The guide.
        result: The `FitResult` so far.
        error: Why training ended early, in `on_end`; None if nothing failed.
    """

    def __init__(self, model: ModelOrGuide, guide: ModelOrGuide, state: TrainingState):
        self.model, self.guide, self._state = model, guide, state
        self.error: BaseException | None = None

    @property
    def result(self) -> FitResult:
        return self._state.result


class Callback:
    """What `fit(callbacks=[...])` calls. Derive a class from it, and write the methods that you need.

    An exception in a callback ends the training with a `RunError` that names the callback and the step. Its `result` is
    the training so far. The state is then in the checkpoints, if there are any, and training can be resumed from it.
    Random numbers that a callback draws do not change the training. Inside a callback, modules are in evaluation mode.
    In several processes, only the first one calls its callbacks.

    Attributes:
        every_steps: How many steps lie between two calls of `on_step`. None: it is not called. A GPU is waited for at
            each call.

    Example:
        >>> import pyrovae, torch
        >>> class Norms(pyrovae.Callback):
        ...     every_steps = 10
        ...     def on_step(self, training, metrics):
        ...         print(metrics["step"], training.model.W.norm() > 0)
        >>> model, guide = pyrovae.load("ppca")(4, latent=2)
        >>> fit = pyrovae.fit(model, guide, torch.randn(40, 4), epochs=20, batch_size=None, callbacks=[Norms()])
        10 tensor(True)
        20 tensor(True)
    """

    every_steps: int | None = 1

    def on_start(self, training: Training) -> None:
        """Called before the first step, or before the first step after `resume`."""

    def on_step(self, training: Training, metrics: dict[str, float]) -> None:
        """Called after a step.

        The keys of `metrics` are `step`, counted from 1, `epoch`, `loss`, `elbo`, `reconstruction`, `kl`, `grad_norm`,
        `lr` and `kl_weight`, of this batch. Losses and ELBOs are in nats per point.
        """

    def on_epoch(self, training: Training, metrics: dict[str, float]) -> None:
        """Called after an epoch, with the epoch's row of `FitResult.history`."""

    def on_end(self, training: Training) -> None:
        """Called when training ends, also if it failed: then `training.error` is the exception."""


HOOKS = [name for name in vars(Callback) if name.startswith("on_")]


class CallbackList:
    """The callbacks of one training."""

    def __init__(self, callbacks: Sequence[Callback], training: Training, device: torch.device):
        self.callbacks, self.training, self.device = list(callbacks), training, device
        self.begun: list[Callback] = []
        self.each_step = [
            (callback, callback.every_steps)
            for callback in self.callbacks
            if callback.every_steps is not None and type(callback).on_step is not Callback.on_step
        ]

    def due(self, steps: int) -> bool:
        """Whether a callback asks for this step, counted from 1."""
        return any(steps % every == 0 for _, every in self.each_step)

    def start(self) -> None:
        for callback in self.callbacks:
            self.begun.append(callback)
            self._call(callback, "on_start")

    def step(self, metrics: dict[str, float]) -> None:
        for callback, every in self.each_step:
            if metrics["step"] % every == 0:
                self._call(callback, "on_step", metrics)

    def epoch(self, metrics: dict[str, float]) -> None:
        for callback in self.callbacks:
            self._call(callback, "on_epoch", dict(metrics))

    def end(self, error: BaseException | None = None) -> None:
        """Let all that began end, also where one fails. The first failure is raised, unless training failed before."""
        self.training.error, failures = error, list[Exception]()
        for callback in self.begun:
            try:
                self._call(callback, "on_end")
            except Exception as its_error:
                failures.append(its_error)
        self.begun = []
        if error is None and failures:
            raise failures[0]
        for failure in failures:
            log.warning("%s", failure)

    def _call(self, callback: Callback, hook: str, *arguments: dict[str, float]) -> None:
        training = self.training
        try:
            with fork_rng(self.device), assume_missing(None), evaluation_mode(training.model, training.guide):
                getattr(callback, hook)(training, *arguments)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            result = training.result
            raise CallbackError(
                f"{type(callback).__name__}.{hook} failed after step {result.steps}: "
                f"{type(error).__name__}: {in_one_line(error).rstrip('.')}. Correct the callback or leave it out; what was trained so far is kept.",
                result,
            ) from error


def check_callbacks(callbacks: Any) -> None:
    """Raise `InvalidInputError` unless `callbacks` is a list of `Callback` objects with known methods."""
    if not isinstance(callbacks, list | tuple):
        raise InvalidInputError(f"callbacks is {callbacks!r:.40}: give a list of pyrovae.Callback objects.")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise InvalidInputError(
                f"callbacks has {callback!r:.60}: give an object of a class that is derived from pyrovae.Callback."
            )
        kind, every = type(callback).__name__, callback.every_steps
        for name in dir(callback):
            if name.startswith("on_") and name not in HOOKS:
                raise InvalidInputError(
                    f"{kind}.{name} would never be called{did_you_mean(name, HOOKS)}: fit calls {', '.join(HOOKS)}."
                )
        if every is not None and (not isinstance(every, int) or every < 1):
            raise InvalidInputError(f"{kind}.every_steps is {every!r:.40}: give a whole number, at least 1, or None.")
