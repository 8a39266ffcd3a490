"""A training under way: the loop over epochs and batches, and what is read from each step."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInputError, NonFiniteError, RunError, in_one_line
from ..missing import any_missing, assume_missing
from ..objectives import is_elbo, name_of
from ..pair.execution import ModelOrGuide, modules
from ..pair.state import load_pair_state, pair_state, store_names
from ..pair.structure import Structure
from ..pair.variance_floor import floor_message
from ..utils.denormals import flush_denormals
from ..utils.distributed import ProcessGroup
from .arguments import TrainingSettings
from .batches import Source
from .callbacks import Callback, CallbackList, Training
from .checkpoints import Checkpoints
from .flat_parameters import FlatParameters, parameter_units
from .nonfinite import locate_nonfinite
from .result import FitResult
from .state import NUM_SUMS, TrainingState
from .step import SCALARS
from .step_builder import StepBuilder

log = logging.getLogger("pyrovae")

READ_EVERY = 50  # steps between looks at a GPU's losses: a look waits for the GPU


class Trainer:
    """Moves a `TrainingState` through the epochs of a training, and writes it down on the way."""

    def __init__(
        self,
        model: ModelOrGuide,
        guide: ModelOrGuide,
        source: Source,
        structure: Structure,
        objective: Any,
        flat: FlatParameters,
        settings: TrainingSettings,
    ):
        self.model, self.guide, self.source, self.structure = model, guide, source, structure
        self.settings, self.early_stopping = settings, settings.early_stopping
        self.group = ProcessGroup()
        self.device = source.device
        self.stores = store_names(structure)
        self.loss_is_elbo = is_elbo(objective)
        num_steps = settings.epochs * (source.steps or 0)
        self.warmup_steps = round(settings.kl_warmup_fraction * num_steps)
        result = FitResult(objective=name_of(objective))
        if structure.no_density:
            result.objective, result.no_density = "reconstruction", structure.no_density
        fingerprint = {
            "parameters": [list(leaf.shape) for leaf in flat.leaves],
            "batches": source.size,
            "objective": result.objective,
            "random numbers (seed)": settings.seed,
        }
        buffers, units = lambda: _fixed_tensors(model, guide), parameter_units(modules(model, guide), flat)
        self.state = TrainingState(flat, buffers, settings, num_steps, result, fingerprint, units)
        self.steps = StepBuilder(model, guide, source, structure, objective, self.state, self.warmup_steps, self.group)
        self.lr = settings.lr  # of the last step
        self.call_back(())

    @property
    def result(self) -> FitResult:
        return self.state.result

    def call_back(self, callbacks: Sequence[Callback]) -> None:
        """Call these from here on, in the process that writes."""
        own = callbacks if self.group.first else ()
        self.callbacks = CallbackList(own, Training(self.model, self.guide, self.state), self.device)

    # the loop

    def fit(
        self, checkpoints: Checkpoints | None, on_epoch: Callable[[FitResult], None] | None, keep_good: bool = False
    ) -> None:
        # processes look at once, for all must see at the same step that one has failed
        every = READ_EVERY if self.device.type == "cuda" and self.group.count == 1 else 1
        while self.state.epoch < self.settings.epochs and not self.result.stop_reason:
            if keep_good and self.state.batch_index == 0 and not self.state.retried:
                self.state.mark_good()
            waiting: list[tuple[Tensor, Tensor, Tensor | None]] = []
            for x, rows in self.source.batches(self.state.epoch, self.state.batch_index):
                waiting.append((self._step(x), x, rows))
                self.state.batch_index += 1
                if len(waiting) >= every or self.callbacks.due(self.result.steps):
                    self.read_losses(waiting)
                    if checkpoints is not None and checkpoints.due():
                        self.save(checkpoints)
            self.read_losses(waiting)
            self._end_epoch()
            if checkpoints is not None and checkpoints.due():
                self.save(checkpoints)
            if on_epoch:
                with assume_missing(None):  # it may score other points
                    on_epoch(self.result)
            self.callbacks.epoch(self.result.history[-1])
            if on_epoch or self.callbacks.callbacks:  # code that is not the loop's own
                self.steps.forget_changed()

    def _step(self, x: Tensor) -> Tensor:
        if self.warmup_steps:
            self.state.kl_weight.fill_(self._weight(self.result.steps))
        step = self.steps.step_for(x)
        try:
            with flush_denormals():
                out = step(self.steps.own_points(x), self.state.kl_weight)
        except (torch.OutOfMemoryError, InvalidInputError, RunError):
            raise
        except (RuntimeError, ValueError) as error:  # a matrix that is no longer positive definite, a scale of NaN
            vector = self.state.updater.flat.vector
            # the others wait for this one's part
            self.group.sum(vector.new_full((vector.numel() + SCALARS,), math.nan))
            if "more than 1 value per channel" in str(error):
                raise InvalidInputError(
                    f"{self._where()}: a batch has a single point, and BatchNorm needs two. Give the loader drop_last=True."
                ) from error
            raise NonFiniteError(
                f"{self._where()}: {in_one_line(error).rstrip('.')}. Lower the learning rate or floor the variances."
            ) from error
        self.lr = self.state.updater.optimizer.param_groups[0]["lr"]
        self.state.step_schedule()
        self.result.steps += 1
        return out

    def read_losses(self, waiting: list[tuple[Tensor, Tensor, Tensor | None]]) -> None:
        """Add the steps' losses up on the host. A bad one has moved nothing, so what it was can still be seen."""
        if not waiting:
            return
        first = self.result.steps - len(waiting)
        # one copy from a GPU for all of them; a stack of one would be for nothing
        values = torch.stack([out for out, _, _ in waiting]).tolist() if len(waiting) > 1 else [waiting[0][0].tolist()]
        for number, ((loss, *parts, norm), (_, x, rows)) in enumerate(zip(values, waiting, strict=True), first):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self.result.steps = number
                problem = f"the loss is {loss}" if not math.isfinite(loss) else "the gradient is not a finite number"
                advice = "lower the learning rate, clip the gradient or floor the variances"
                if number == 0 and any_missing(x):
                    advice = "x has missing entries, nan: a network of your own must read x.nan_to_num()"
                found_at = locate_nonfinite(self.model, self.guide, x, rows, self.state.updater.flat.leaves)
                raise NonFiniteError(f"{self._where()}: {found_at or problem}; {advice}.")
            points = len(x)
            # a data plate that stands for a subsample scales the loss up to the size of the whole
            scale = points / self.structure.plate_full_size if self.structure.plate_full_size else 1.0
            reconstruction, *kl_part = parts
            kl = kl_part[0] if kl_part else loss + reconstruction if self.loss_is_elbo else math.nan
            loss, reconstruction, weight = loss * scale, reconstruction * scale, self._weight(number)
            kl, counted = (kl * scale / weight, points) if weight else (0.0, 0)
            added = (loss, reconstruction, kl, counted, norm * points, points)
            self.state.epoch_sums = [old + new for old, new in zip(self.state.epoch_sums, added, strict=True)]
        waiting.clear()
        if self.callbacks.due(self.result.steps):  # the last of these steps is the one that was asked for
            self.callbacks.step(self._step_metrics(added))
            self.steps.forget_changed()

    def _step_metrics(self, sums: tuple[float, ...]) -> dict[str, float]:
        """The row of the last step: its sums over the batch as means over points."""
        kl_weight = self._weight(self.result.steps - 1)
        means = self._means(sums, full_kl=kl_weight == 1.0)
        where = {"step": self.result.steps, "epoch": self.state.epoch + 1}
        return {**where, **means, "lr": self.lr, "kl_weight": kl_weight}

    def _means(self, sums: Sequence[float], full_kl: bool) -> dict[str, float]:
        """Sums over points as means; the ELBO from its parts or, if the loss has all of the KL, from the loss."""
        loss, reconstruction, kl, counted, gradient, points = sums
        loss, reconstruction, kl = loss / points, reconstruction / points, kl / counted if counted else math.nan
        elbo = reconstruction - kl
        if math.isnan(elbo) and self.loss_is_elbo and full_kl:
            elbo = -loss  # its parts are not told apart
        if self.result.no_density:
            elbo, kl = math.nan, math.nan
        return {"loss": loss, "elbo": elbo, "reconstruction": reconstruction, "kl": kl, "grad_norm": gradient / points}

    def _weight(self, steps: int) -> float:
        """The KL's, after so many steps."""
        return min(1.0, steps / self.warmup_steps) if self.warmup_steps else 1.0

    def _end_epoch(self) -> None:
        if self.state.epoch_sums[-1] == 0:
            raise InvalidInputError(
                f"x gave no batches in epoch {self.state.epoch + 1}: give what can be iterated over again."
            )
        full_kl = self._weight(self.result.steps - self.state.batch_index) == 1.0  # from the epoch's first step on
        means = self._means(self.state.epoch_sums, full_kl)
        self.result.losses.append(means["loss"])
        self.state.update_seconds()
        row = {
            "epoch": self.state.epoch + 1,
            "steps": self.result.steps,
            **means,
            "lr": self.state.updater.optimizer.param_groups[0]["lr"],
            "kl_weight": self._weight(self.result.steps - 1),
            "validation_elbo": math.nan,
            "seconds": self.result.seconds,
        }
        self.state.epoch_sums = [0.0] * NUM_SUMS
        self.state.epoch, self.state.batch_index = self.state.epoch + 1, 0
        if self.early_stopping is not None:
            with self.state.averaged_parameters():
                look = self.early_stopping.look(self.model, self.guide, self.structure, self.settings.seed)
            row["validation_elbo"] = self.group.broadcast(look)  # all processes stop, or none
            self.early_stopping.remember(self.pair_tensors, self.state.epoch, row["validation_elbo"])
            self.result.stop_reason = self.early_stopping.stop_reason(self.state.epoch)
        self.result.history.append(row)
        self.state.step_schedule(row)

    def _where(self) -> str:
        return f"Training stopped at step {self.result.steps + 1} (epoch {self.state.epoch + 1})"

    # the state

    def pair_tensors(self) -> dict[str, Any]:
        """What the pair would have if training ended here."""
        with self.state.averaged_parameters():
            return pair_state(self.model, self.guide, self.stores)

    def retry(self, lr_factor: float) -> None:
        """Back to the last good epoch, once, with the learning rate times `lr_factor`."""
        self.state.go_back(lr_factor)
        self.steps.forget()

    def resume(self, checkpoints: Checkpoints) -> None:
        """Raises `InvalidInputError` where the checkpoint is another training's."""
        self.group.barrier()  # what is being written is whole before any reads
        self.state.load_checkpoint(checkpoints.load(self.device)["training"])
        updater = self.state.updater
        updater.units = parameter_units(modules(self.model, self.guide), updater.flat)  # buffers may say another now
        self.steps.forget()
        self.group.barrier()

    def save(self, checkpoints: Checkpoints) -> None:
        if self.group.first:
            self.state.update_seconds()
            checkpoints.save({"pair": self.pair_tensors(), "training": self.state.checkpoint()})

    def finish(self, checkpoints: Checkpoints | None) -> FitResult:
        """Leave the pair with what it is to have, and on disk too."""
        self.state.update_seconds()
        values = self.state.checkpoint()
        final = self.pair_tensors()
        if self.early_stopping is not None and self.early_stopping.best is not None:
            final = self.early_stopping.best
        load_pair_state(final, self.model, self.guide)
        self.result.floor_message = values["result"]["floor_message"] = floor_message(self.model)
        if checkpoints is not None and self.group.first:
            checkpoints.save({"pair": final, "training": values})
        return self.result


def _fixed_tensors(model: ModelOrGuide, guide: ModelOrGuide) -> list[Tensor]:
    """What the pair has besides what is trained: buffers, and parameters that stay as they are."""
    return [
        value
        for module in modules(model, guide)
        for value in [*module.buffers(), *(part for part in module.parameters() if not part.requires_grad)]
    ]
