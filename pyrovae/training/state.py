"""Everything that the next step of a training depends on: held here, written down and put back."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..errors import InvalidInputError, in_one_line
from .arguments import TrainingSettings
from .flat_parameters import FlatParameters
from .optimizers import make_optimizer, make_schedule, plateau_metric
from .result import FitResult
from .schedules import is_adam
from .step import ParameterUpdater, adam_state

EAGER, REPLAYED, COMPILED = "eager", "replayed", "compiled"  # the kinds of steps
NUM_SUMS = 6  # over an epoch's points: loss, reconstruction, KL, points whose KL is known, gradient's norm, points


class TrainingState:
    """Parameters, optimiser, schedule, position in the data, sums of the epoch, results so far, and random numbers.

    `fingerprint` tells one training from another: a state is restored only where it is the same. `buffers()` are the tensors
    that the pair has besides its trained parameters.
    """

    def __init__(
        self,
        flat: FlatParameters,
        buffers: Callable[[], list[Tensor]],
        settings: TrainingSettings,
        num_steps: int,
        result: FitResult,
        fingerprint: dict[str, Any],
        units: Tensor | None = None,
    ):
        """`num_steps` is the length of the whole training, for the schedule."""
        self.buffers, self.settings, self.num_steps = buffers, settings, num_steps
        self.result, self.fingerprint = result, fingerprint
        self.device, self.lr = flat.vector.device, settings.lr
        average = flat.vector.detach().clone() if settings.ema_decay is not None else None
        self.updater = ParameterUpdater(
            flat,
            self.new_optimizer(flat),
            is_adam(settings.optimizer),
            settings.max_grad_norm,
            settings.ema_decay,
            average,
            units,
        )
        self.kl_weight = torch.ones((), device=self.device)
        self.executions: dict[int, tuple[str, str]] = {}  # by the number of points: the kind of step, and why
        self.epoch, self.batch_index = 0, 0
        self.epoch_sums = [0.0] * NUM_SUMS
        self.last_good: dict[str, Any] | None = None  # the snapshot of the last epoch's start, to go back to
        self.retried = False  # training has gone back once
        self.started, self.seconds_before = time.perf_counter(), 0.0
        self.new_schedule(0)

    def new_optimizer(self, flat: FlatParameters) -> Optimizer:
        make = self.settings.optimizer
        return make_optimizer(make, [flat.vector] if is_adam(make) else flat.leaves, self.lr)

    def new_schedule(self, steps: int, history: Sequence[dict[str, float]] = ()) -> None:
        """The schedule after so many steps. It is replayed from its start, so that no state of torch's has to be saved."""
        make = self.settings.schedule
        self.scheduler = make_schedule(make, self.updater.optimizer, self.num_steps) if make else None
        for _ in range(steps):
            self.step_schedule()
        for row in history:
            self.step_schedule(row)

    def step_schedule(self, epoch: dict[str, float] | None = None) -> None:
        """Move the schedule on after a step or, with the row of an epoch in the history, after the epoch."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            if epoch is not None:
                self.scheduler.step(plateau_metric(epoch))
        elif self.scheduler is not None and epoch is None:
            self.scheduler.step()

    def update_seconds(self) -> None:
        self.result.seconds = self.seconds_before + time.perf_counter() - self.started

    def mark_good(self) -> None:
        """Remember this moment as the one that training goes back to."""
        self.last_good = self.snapshot()

    def go_back(self, lr_factor: float) -> None:
        """Back to the last good epoch, once, from where the learning rate is `lr_factor` of what it was."""
        assert self.last_good is not None
        self.restore({**self.last_good, "lr": self.last_good["lr"] * lr_factor})
        self.last_good, self.retried = None, True

    def checkpoint(self) -> dict[str, Any]:
        """Where training stands, and where it would go back to."""
        return {**self.snapshot(), "last_good": self.last_good, "retried": self.retried}

    def load_checkpoint(self, values: dict[str, Any]) -> None:
        """Raises `InvalidInputError` where the checkpoint is another training's."""
        self.restore(values)
        self.last_good, self.retried = values["last_good"], values["retried"]

    def snapshot(self) -> dict[str, Any]:
        """Everything that the next step depends on, in tensors, numbers, texts and containers of these."""
        updater, stopping = self.updater, self.settings.early_stopping
        if updater.on_vector:
            adam_state(updater)
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return {
            "fingerprint": self.fingerprint,
            "parameters": updater.flat.vector.detach().clone(),
            "buffers": [value.detach().clone() for value in self.buffers()],
            "optimizer": _cloned(updater.optimizer.state_dict()["state"]),
            "average": None if updater.average is None else updater.average.clone(),
            "num_updates": updater.num_updates,
            "rng": (torch.get_rng_state(), cuda),
            "epoch": self.epoch,
            "batch_index": self.batch_index,
            "epoch_sums": list(self.epoch_sums),
            "execution": _cloned(self.executions),
            "lr": self.lr,
            "kl_weight": float(self.kl_weight),
            "early_stopping": None if stopping is None else stopping.state(),
            "result": _cloned(vars(self.result)),
        }

    def restore(self, values: dict[str, Any]) -> None:
        """Stand where the snapshot was taken. Raises `InvalidInputError` where it is another training's."""
        self._check_fingerprint(values.get("fingerprint", {}))
        updater, stopping = self.updater, self.settings.early_stopping
        try:
            updater.flat.set(values["parameters"])
            with torch.no_grad():
                for own, value in zip(self.buffers(), values["buffers"], strict=True):
                    if own.shape != value.shape:
                        raise ValueError(f"a buffer is {tuple(value.shape)} there, {tuple(own.shape)} here")
                    own.copy_(value)
            self.lr = values["lr"]
            updater.optimizer = self.new_optimizer(updater.flat)
            groups = updater.optimizer.state_dict()["param_groups"]  # the schedule sets what they are now
            updater.optimizer.load_state_dict({"state": _cloned(values["optimizer"]), "param_groups": groups})
            self.new_schedule(values["result"]["steps"], values["result"]["history"])
            if updater.average is not None:
                updater.average.copy_(values["average"])
            updater.num_updates = values["num_updates"]
            self.epoch, self.batch_index = values["epoch"], values["batch_index"]
            self.epoch_sums = list(values["epoch_sums"])
            self.executions = {size: (_kind(told), why) for size, (told, why) in values["execution"].items()}
            self.kl_weight.fill_(values["kl_weight"])
            if stopping is not None:
                stopping.load(_cloned(values["early_stopping"]))
            self.result = FitResult(**_cloned(values["result"]))
            self.seconds_before, self.started = self.result.seconds, time.perf_counter()
            cpu, cuda = values["rng"]
            torch.set_rng_state(cpu.cpu())
            if cuda is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(cuda.cpu(), self.device)
        except torch.OutOfMemoryError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InvalidInputError(
                f"The checkpoint is of another training and cannot be resumed: {type(error).__name__}: {in_one_line(error)}"
            ) from error

    def _check_fingerprint(self, other: dict[str, Any]) -> None:
        for name, value in self.fingerprint.items():
            if name == "objective" and other and name not in other:  # written before it was recorded
                continue
            if other.get(name) != value:
                raise InvalidInputError(
                    f"The checkpoint is of a training with other {name}: resume with what it was begun with."
                )

    @contextlib.contextmanager
    def averaged_parameters(self) -> Iterator[None]:
        """The moving average in the place of the parameters, if there is one."""
        average, flat = self.updater.average, self.updater.flat
        if average is None:
            yield
            return
        now = flat.vector.detach().clone()
        flat.set(average)
        try:
            yield
        finally:
            flat.set(now)


def _kind(told: str | bool) -> str:
    """The kind of step that a checkpoint tells of; older ones say whether steps were compiled."""
    return told if isinstance(told, str) else COMPILED if told else EAGER


def _cloned(value: Any) -> Any:
    """A copy that later steps do not change."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _cloned(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_cloned(part) for part in value)
    return value
