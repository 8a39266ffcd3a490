"""Which kind of step a batch size gets (eager, replayed, compiled, the objective's own), and the loss that it minimises."""

import contextlib
import logging
import math
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor

from ..compilation.compiling import CompilationError
from ..errors import InvalidInputError
from ..objectives import Terms, differentiable_loss, sums_over_points, warm_up
from ..objectives.shared_batches import BatchShare, shared_batch
from ..pair.execution import ModelOrGuide, modules
from ..pair.structure import Structure
from ..utils.distributed import ProcessGroup
from .batches import Source
from .recorded_loss import Loss, python_values, record_step
from .state import COMPILED, EAGER, REPLAYED, TrainingState
from .step import SCALARS, Step, compiled_step, eager_step, replayed_step

log = logging.getLogger("pyrovae")

REPLAYED_FROM = 50  # steps of which a recording saves as much as it costs
# Steps after which compiling, about 15 seconds for a millisecond a step, has paid for itself; on a GPU it saves more.
COMPILED_FROM = {"cpu": 15_000, "cuda": 500}


class StepBuilder:
    """Builds a step for each number of points in a batch, once."""

    def __init__(
        self,
        model: ModelOrGuide,
        guide: ModelOrGuide,
        source: Source,
        structure: Structure,
        objective: Any,
        state: TrainingState,
        warmup_steps: int,
        group: ProcessGroup,
    ):
        self.model, self.guide, self.source, self.structure = model, guide, source, structure
        self.objective, self.state, self.settings = objective, state, state.settings
        self.warmup_steps, self.group, self.device = warmup_steps, group, source.device
        self.terms = differentiable_loss(objective, model, guide, source.example[: source.size], structure)
        self.steps: dict[int, Step] = {}  # by the number of points
        self.python_values: list[Any] = []  # when steps were recorded
        self.logged = False

    def step_for(self, x: Tensor) -> Step:
        return self.steps.get(len(x)) or self._build(x)

    def forget(self) -> None:
        """Build all steps again: those so far move parameters with an optimiser that has been replaced."""
        self.steps = {}

    def own_points(self, x: Tensor) -> Tensor:
        """This process's points of a batch; where there are none, one that counts nothing."""
        if self.group.count == 1:
            return x
        mine = x[self.group.share(len(x))]
        return mine if len(mine) else x[:1]

    def forget_changed(self) -> None:
        """Run eagerly from here on, if an attribute of a module has changed since steps were recorded."""
        recorded = [size for size, (kind, _) in self.state.executions.items() if kind != EAGER]
        if recorded and self.python_values != python_values(modules(self.model, self.guide)):
            why = "an attribute of a module has changed since the steps were recorded"
            self.state.executions |= dict.fromkeys(recorded, (EAGER, why))
            self.forget()

    def _build(self, x: Tensor) -> Step:
        """A step for batches of this size: of the kind that pays, which a resumed run does not decide again."""
        state, size = self.state, len(x)
        loss = self._loss(size, self.group.share(size))
        own = self.own_points(x)
        kind, why = self._choose(size)
        step = None
        if kind != EAGER:
            mine = modules(self.model, self.guide)
            try:
                recording = record_step(loss, state.updater.flat, own, state.kl_weight, mine)
                self.python_values = python_values(mine)
            except CompilationError as error:
                kind, why = EAGER, str(error)
        if kind == COMPILED:
            try:
                step = compiled_step(state.updater, recording, self.group, size, own, state.kl_weight)
            except CompilationError as error:
                kind, why = REPLAYED, str(error)
        if kind == REPLAYED:
            step = replayed_step(state.updater, recording, self.group, size, own, state.kl_weight)
        self.steps[size] = step or self._stock_step(size) or eager_step(state.updater, loss, self.group, size)
        if size == self.source.size or not state.result.execution:
            state.result.execution = f"{self._in_words(kind)}: {why}"
            if not self.logged:
                log.info(state.result.execution)
            self.logged = True
        state.executions[size] = kind, why
        return self.steps[size]

    def _in_words(self, kind: str) -> str:
        words = {EAGER: "eager steps", REPLAYED: "steps recorded and replayed", COMPILED: "steps recorded and compiled"}
        return "steps recorded as a CUDA graph" if kind == COMPILED and self.device.type == "cuda" else words[kind]

    def _choose(self, size: int) -> tuple[str, str]:
        """The kind of step, and why."""
        if isinstance(self.terms, str):
            return EAGER, self.terms
        if self.group.count > 1 and getattr(self.objective, "communicates", False):
            return EAGER, "processes exchange numbers inside the loss"
        if size in self.state.executions:
            return self.state.executions[size]
        if self.settings.compile is not None:
            return COMPILED if self.settings.compile else EAGER, f"compile={self.settings.compile}"
        if self.source.steps is None:
            return REPLAYED, "how many there will be is not known"
        count = self.state.num_steps if size == self.source.size else self.settings.epochs
        enough = COMPILED_FROM.get(self.device.type, COMPILED_FROM["cpu"])
        if count >= enough:
            return COMPILED, f"{count} of them, at least {enough}"
        if count >= REPLAYED_FROM:
            return REPLAYED, f"{count} of them, fewer than {enough}"
        return EAGER, f"{count} of them, fewer than {REPLAYED_FROM}"

    def _loss(self, size: int, share: slice) -> Loss:
        """What a step minimises, as a function of this process's points and the KL's weight."""
        weight = self._weight(size, share)
        autocast = self.settings.precision == "bf16"

        def loss(x: Tensor, kl_weight: Tensor) -> Terms:
            assert not isinstance(self.terms, str)
            with contextlib.ExitStack() as inside:
                if self.warmup_steps:
                    inside.enter_context(warm_up(kl_weight))
                if self.group.count > 1:  # what is no ELBO of Pyro's may draw by itself
                    everywhere = not isinstance(self.objective, ELBO)
                    inside.enter_context(shared_batch(BatchShare(size, share), everywhere))
                if autocast:
                    inside.enter_context(torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False))
                terms = self.terms(self.model, self.guide, x)
            return terms if weight == 1.0 else Terms(*(weight * part for part in terms.parts))

        return loss

    def _weight(self, size: int, share: slice) -> float:
        """By which this process's loss counts in the sum over all: a subsample's plate stands for the whole in each."""
        mine = share.stop - share.start
        return mine / size if self.structure.plate_full_size or mine == 0 else 1.0

    def _stock_step(self, size: int) -> Step | None:
        """The step of an objective that computes its own gradients."""
        if not isinstance(self.terms, str):
            return None
        if self.warmup_steps or self.settings.precision == "bf16":
            raise InvalidInputError(
                f"{self.state.result.objective} trains without KL warm-up and in full precision, because "
                f"{self.terms}: give an objective that can be recorded, such as Trace_ELBO."
            )
        if self.group.count > 1 and not sums_over_points(self.objective):
            raise InvalidInputError(
                f"{self.state.result.objective} may be no sum over points, which processes could share: train in one process, "
                "or give an objective of pyrovae.objectives."
            )
        updater, share = self.state.updater, self.group.share(size)
        weight = self._weight(size, share)

        def step(x: Tensor, kl_weight: Tensor) -> Tensor:
            flat = updater.flat
            for leaf in flat.leaves:
                leaf.grad = None
            with shared_batch(BatchShare(size, share)) if self.group.count > 1 else contextlib.nullcontext():
                value = self.objective.loss_and_grads(self.model, self.guide, x)
            loss = torch.as_tensor(value, dtype=torch.float64)
            parts = [(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad).reshape(-1) for leaf in flat.leaves]
            gradient = torch.cat(parts)
            if self.group.count > 1:
                none = gradient.new_zeros(SCALARS - 1)
                every = self.group.sum(weight * torch.cat([gradient, loss.to(gradient).reshape(1), none]))
                gradient, (loss, *_) = every[: len(gradient)], every[len(gradient) :]
            nothing = torch.full_like(loss, math.nan)
            if not bool(torch.isfinite(loss)):
                return torch.stack([loss, nothing, loss])
            return torch.stack([loss, nothing, updater.update(gradient, size).to(loss)])

        return step
