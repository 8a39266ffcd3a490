"""A fit under way: the loop over epochs and batches, and the steps that it takes."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor
from torch.optim import Optimizer

from ..compilation.compiling import CompilationError
from ..errors import InvalidInputError, NonFiniteError, RunError, in_one_line
from ..objectives import Terms, differentiable_loss, is_elbo, name_of, warm_up
from ..pair.execution import ModelOrGuide, modules
from ..pair.state import load_pair_state, pair_state, store_names
from ..pair.structure import Structure
from ..utils.distributed import ProcessGroup
from .batches import Source
from .checkpoints import Checkpoints
from .compiled_step import Loss
from .distributed_noise import whole_batch_noise
from .early_stopping import EarlyStopping
from .flat_parameters import FlatParameters
from .nonfinite import locate_nonfinite
from .result import FitResult
from .schedules import Schedule, adam
from .state import restore, snapshot
from .step import RECORD_FROM, SCALARS, ParameterUpdater, Step, eager_step, recorded_step

log = logging.getLogger("pyrovae")

READ_EVERY = 50  # steps between looks at a GPU's losses: a look waits for the GPU
SUMS = 6  # over an epoch's points: loss, reconstruction, KL, points whose KL is known, gradient's norm, points


class Trainer:
    """A fit under way: what moves, where it stands, and how both are written down and taken up again."""

    def __init__(
        self,
        model: ModelOrGuide,
        guide: ModelOrGuide,
        source: Source,
        structure: Structure,
        objective: ELBO,
        flat: FlatParameters,
        epochs: int,
        seed: int,
        *,
        lr: float,
        optimizer: Callable[[Iterable[Tensor], float], Optimizer],
        schedule: Schedule | None,
        max_grad_norm: float | None,
        kl_warmup_fraction: float,
        ema_decay: float | None,
        early_stopping: EarlyStopping | None,
        precision: str,
        compile: bool | None,
    ):
        self.model, self.guide, self.source, self.structure = model, guide, source, structure
        self.objective, self.epochs, self.seed, self.compile = objective, epochs, seed, compile
        self.make_optimizer, self.make_schedule, self.lr = optimizer, schedule, lr
        self.early_stopping, self.autocast = early_stopping, precision == "bf16"
        self.ranks = ProcessGroup()
        self.device = source.device
        self.total = epochs * (source.steps or 0)
        self.rise = round(kl_warmup_fraction * self.total)
        self.beta = torch.ones((), device=self.device)
        self.stores = store_names(structure)
        average = flat.vector.detach().clone() if ema_decay is not None else None
        self.learner = ParameterUpdater(
            flat, self.new_optimizer(flat), optimizer is adam, max_grad_norm, ema_decay, average
        )
        self.terms = differentiable_loss(objective, model, guide, source.example[: source.size], structure)
        self.steps: dict[int, Step] = {}  # by the number of points
        self.executions: dict[int, tuple[bool, str]] = {}  # whether it was recorded, and why
        self.told = False  # which road was taken
        self.loss_is_elbo = is_elbo(objective)
        self.result = FitResult(objective=name_of(objective))
        if structure.no_density:
            self.result.objective, self.result.no_density = "reconstruction", structure.no_density
        self.epoch, self.place = 0, 0
        self.sums = [0.0] * SUMS
        self.started, self.before = time.perf_counter(), 0.0
        self.good: dict[str, Any] | None = None  # the last epoch's start, to go back to
        self.slowed = False  # it has gone back
        self.task: dict[str, Any] = {
            "parameters": [list(leaf.shape) for leaf in flat.leaves],
            "batches": source.size,
            "objective": self.result.objective,
            "random numbers (seed)": seed,
        }
        self.new_schedule(0)

    def new_optimizer(self, flat: FlatParameters) -> Optimizer:
        return self.make_optimizer([flat.vector] if self.make_optimizer is adam else flat.leaves, self.lr)

    def new_schedule(self, steps: int) -> None:
        """The schedule, after so many steps: it is gone through again, so that no state of torch's need be kept."""
        self.scheduler = self.make_schedule(self.learner.optimizer, self.total) if self.make_schedule else None
        for _ in range(steps if self.scheduler else 0):
            self.scheduler.step()  # type: ignore[union-attr]

    # the loop

    def fit(
        self, checkpoints: Checkpoints | None, on_epoch: Callable[[FitResult], None] | None, keep_good: bool = False
    ) -> None:
        # processes look at once, for all must see at the same step that one has failed
        every = READ_EVERY if self.device.type == "cuda" and self.ranks.count == 1 else 1
        while self.epoch < self.epochs and not self.result.stop_reason:
            if keep_good and self.place == 0 and not self.slowed:
                self.good = snapshot(self)
            waiting: list[tuple[Tensor, Tensor, Tensor | None]] = []
            for x, rows in self.source.batches(self.epoch, self.place):
                waiting.append((self._step(x), x, rows))
                self.place += 1
                if len(waiting) >= every:
                    self.read_arrays(waiting)
                    if checkpoints is not None and checkpoints.due():
                        self.save(checkpoints)
            self.read_arrays(waiting)
            self._end_epoch()
            if checkpoints is not None and checkpoints.due():
                self.save(checkpoints)
            if on_epoch:
                on_epoch(self.result)

    def _step(self, x: Tensor) -> Tensor:
        if self.rise:
            self.beta.fill_(self._weight(self.result.steps))
        step = self.steps.get(len(x)) or self._make_step(x)
        try:
            out = step(self._own(x), self.beta)
        except (torch.OutOfMemoryError, InvalidInputError, RunError):
            raise
        except (RuntimeError, ValueError) as error:  # a matrix that is no longer positive definite, a scale of NaN
            vector = self.learner.flat.vector
            # the others wait for this one's part
            self.ranks.sum(vector.new_full((vector.numel() + SCALARS,), math.nan))
            raise NonFiniteError(
                f"{self._where()}: {in_one_line(error).rstrip('.')}. Lower the learning rate or floor the variances."
            ) from error
        if self.scheduler:
            self.scheduler.step()
        self.result.steps += 1
        return out

    def read_arrays(self, waiting: list[tuple[Tensor, Tensor, Tensor | None]]) -> None:
        """Add the steps' losses up on the host. A bad one has moved nothing, so what it was can still be seen."""
        if not waiting:
            return
        first = self.result.steps - len(waiting)
        # one copy from a GPU for all of them; a stack of one would be for nothing
        read = torch.stack([out for out, _, _ in waiting]).tolist() if len(waiting) > 1 else [waiting[0][0].tolist()]
        for number, ((loss, *parts, norm), (_, x, rows)) in enumerate(zip(read, waiting, strict=True), first):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self.result.steps = number
                what = f"the loss is {loss}" if not math.isfinite(loss) else "the gradient is not a finite number"
                places = locate_nonfinite(self.model, self.guide, x, rows, self.learner.flat.leaves)
                raise NonFiniteError(
                    f"{self._where()}: {places or what}; lower the learning rate, clip the gradient or floor the variances."
                )
            points = len(x)
            # a data plate that stands for a subsample scales the loss up to the size of the whole
            share = points / self.structure.plate_full_size if self.structure.plate_full_size else 1.0
            reconstruction, *told = parts
            kl = told[0] if told else loss + reconstruction if self.loss_is_elbo else math.nan
            loss, reconstruction, weight = loss * share, reconstruction * share, self._weight(number)
            kl, counted = (kl * share / weight, points) if weight else (0.0, 0)
            added = (loss, reconstruction, kl, counted, norm * points, points)
            self.sums = [old + new for old, new in zip(self.sums, added, strict=True)]
        waiting.clear()

    def _weight(self, steps: int) -> float:
        """The KL's, after so many steps."""
        return min(1.0, steps / self.rise) if self.rise else 1.0

    def _end_epoch(self) -> None:
        loss, reconstruction, kl, counted, gradient, points = self.sums
        if points == 0:
            raise InvalidInputError(
                f"x gave no batches in epoch {self.epoch + 1}: give what can be iterated over again."
            )
        reconstruction, kl = reconstruction / points, kl / counted if counted else math.nan
        beta = self._weight(self.result.steps - 1)
        elbo = reconstruction - kl
        if math.isnan(elbo) and self.loss_is_elbo and self._weight(self.result.steps - self.place) == 1.0:
            elbo = -loss / points  # its parts are not told apart, and all of the KL was in the loss
        self.result.losses.append(loss / points)
        self.result.seconds = self.before + time.perf_counter() - self.started
        if self.result.no_density:
            elbo, kl = math.nan, math.nan
        row = {
            "epoch": self.epoch + 1,
            "steps": self.result.steps,
            "loss": self.result.losses[-1],
            "elbo": elbo,
            "reconstruction": reconstruction,
            "kl": kl,
            "grad_norm": gradient / points,
            "lr": self.learner.optimizer.param_groups[0]["lr"],
            "kl_weight": beta,
            "validation_elbo": math.nan,
            "seconds": self.result.seconds,
        }
        self.sums = [0.0] * SUMS
        self.epoch, self.place = self.epoch + 1, 0
        if self.early_stopping is not None:
            with self._averaged():
                look = self.early_stopping.look(self.model, self.guide, self.structure, self.seed)
            row["validation_elbo"] = self.ranks.broadcast(look)  # all processes stop, or none
            self.early_stopping.remember(self._tensors, self.epoch, row["validation_elbo"])
            self.result.stop_reason = self.early_stopping.verdict(self.epoch)
        self.result.history.append(row)

    # steps

    def _make_step(self, x: Tensor) -> Step:
        """A step for batches of this size: recorded where that pays, which a resumed run does not decide again."""
        size, share = len(x), self.ranks.share(len(x))
        loss = self._loss(size, share)
        own = self._own(x)
        recorded, why = self._road(size)
        step = None
        if recorded:
            try:
                mine = modules(self.model, self.guide)
                step = recorded_step(self.learner, loss, self.ranks, size, own, self.beta, mine)
            except CompilationError as error:
                recorded, why = False, str(error)
        self.steps[size] = step or self._stock_step(size) or eager_step(self.learner, loss, self.ranks, size)
        if size == self.source.size or not self.result.execution:
            kind = "a CUDA graph" if self.device.type == "cuda" else "compiled"
            self.result.execution = f"steps recorded and {kind}: {why}" if recorded else f"eager steps: {why}"
            if not self.told:
                log.info(self.result.execution)
            self.told = True
        self.executions[size] = recorded, why
        return self.steps[size]

    def _road(self, size: int) -> tuple[bool, str]:
        enough = RECORD_FROM.get(self.device.type, RECORD_FROM["cpu"])
        count = self.total if size == self.source.size else self.epochs
        if isinstance(self.terms, str):
            return False, self.terms
        if size in self.executions:
            return self.executions[size]
        if self.compile is not None:
            return self.compile, f"compile={self.compile}"
        if self.source.steps is None:
            return False, "nothing is known of how many there will be; compile=True decides"
        return count >= enough, f"{count} of them, {'at least' if count >= enough else 'fewer than'} {enough}"

    def _loss(self, size: int, share: slice) -> Loss:
        """What a step minimises, as a function of this process's points and the KL's weight."""
        mine = share.stop - share.start
        weight = mine / size if self.structure.plate_full_size or mine == 0 else 1.0
        share = share if mine else slice(0, 1)  # as `_own` has it

        def loss(x: Tensor, beta: Tensor) -> Terms:
            assert not isinstance(self.terms, str)
            with contextlib.ExitStack() as inside:
                if self.rise:
                    inside.enter_context(warm_up(beta))
                if self.ranks.count > 1:
                    inside.enter_context(whole_batch_noise(size, share))
                if self.autocast:
                    kind = self.device.type
                    inside.enter_context(torch.autocast(kind, torch.bfloat16, cache_enabled=False))
                terms = self.terms(self.model, self.guide, x)
            return terms if weight == 1.0 else Terms(*(weight * part for part in terms.parts))

        return loss

    def _stock_step(self, size: int) -> Step | None:
        """The step of an objective that computes its own gradients."""
        if not isinstance(self.terms, str):
            return None
        if self.ranks.count > 1 or self.rise or self.autocast:
            raise InvalidInputError(
                f"{self.result.objective} trains in one process, without KL warm-up and in full precision, because {self.terms}: "
                "give an objective that can be recorded, such as Trace_ELBO."
            )

        def step(x: Tensor, beta: Tensor) -> Tensor:
            flat = self.learner.flat
            for leaf in flat.leaves:
                leaf.grad = None
            loss = torch.as_tensor(self.objective.loss_and_grads(self.model, self.guide, x), dtype=torch.float64)
            parts = [(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad).reshape(-1) for leaf in flat.leaves]
            nothing = torch.full_like(loss, math.nan)
            if not bool(torch.isfinite(loss)):
                return torch.stack([loss, nothing, loss])
            return torch.stack([loss, nothing, self.learner.update(torch.cat(parts), size).to(loss)])

        return step

    def _own(self, x: Tensor) -> Tensor:
        """This process's points of a batch; where there are none, one that counts nothing."""
        if self.ranks.count == 1:
            return x
        mine = x[self.ranks.share(len(x))]
        return mine if len(mine) else x[:1]

    def _where(self) -> str:
        return f"Training stopped at step {self.result.steps + 1} (epoch {self.epoch + 1})"

    # the state

    def _tensors(self) -> dict[str, Any]:
        """What the pair would have if training ended here."""
        with self._averaged():
            return pair_state(self.model, self.guide, self.stores)

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """The moving average in the place of the parameters, if there is one."""
        average, flat = self.learner.average, self.learner.flat
        if average is None:
            yield
            return
        now = flat.vector.detach().clone()
        flat.set(average)
        try:
            yield
        finally:
            flat.set(now)

    def slow_down(self, factor: float) -> None:
        """Back to the last good epoch, once, from where the learning rate is `factor` of what it was."""
        assert self.good is not None
        restore(self, {**self.good, "lr": self.good["lr"] * factor})
        self.good, self.slowed = None, True

    def state(self) -> dict[str, Any]:
        """Where training stands, and where it would go back to."""
        return {**snapshot(self), "good": self.good, "slowed": self.slowed}

    def resume(self, state: dict[str, Any]) -> None:
        """Raises `InvalidInputError` where the state is another training's."""
        restore(self, state)
        self.good, self.slowed = state["good"], state["slowed"]

    def save(self, checkpoints: Checkpoints) -> None:
        if self.ranks.first:
            self.result.seconds = self.before + time.perf_counter() - self.started
            checkpoints.save({"pair": self._tensors(), "training": self.state()})

    def finish(self, checkpoints: Checkpoints | None) -> FitResult:
        """Leave the pair with what it is to have, and on disk too."""
        self.result.seconds = self.before + time.perf_counter() - self.started
        state = self.state()
        final = self._tensors()
        if self.early_stopping is not None and self.early_stopping.best is not None:
            final = self.early_stopping.best
        load_pair_state(final, self.model, self.guide)
        if checkpoints is not None and self.ranks.first:
            checkpoints.save({"pair": final, "training": state})
        return self.result
