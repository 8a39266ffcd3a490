"""fit(): stochastic variational inference, through the objective that the caller passes."""

import contextlib
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import pyro
import torch
from pyro.infer import ELBO
from pyro.infer.autoguide import AutoGuide
from torch import Tensor
from torch.optim import Optimizer

from ..errors import Diverged, Refusal, blamed
from ..running import Program, fork_rng, in_one_line, local_parameters, modules, parameters, refuse_hidden
from ..state import load_pair_state, pair_state, store_names
from ..structure import Structure, inspect, observed_sites, refuse_value
from .blame import blame
from .capture import Loss, Unrecordable
from .checkpoints import Checkpoints
from .flat import Flat, flattened
from .objectives import Terms, default_objective, terms_of, warm_up
from .ranks import Ranks, whole_batch_noise
from .schedules import Schedule, adam, cosine
from .sources import Resident, Source, source_of
from .step import RECORD_FROM, Learner, Step, adam_state, eager_step, recorded_step
from .stopping import EarlyStopping

log = logging.getLogger("pyrovae")

READ_EVERY = 50  # steps between looks at a GPU's losses: a look waits for the GPU


@runtime_checkable
class StartsFromData(Protocol):
    """A model that begins at values computed from data. `fit` calls `initialise` once, unless `initialised` is true."""

    initialised: Tensor

    def initialise(self, x: Tensor) -> None: ...


@dataclass
class Fit:
    """How a fit went. `losses` are nats per data point, one an epoch: −ELBO averaged over its batches' points.

    `history` has a row for each epoch: `elbo` and its parts `reconstruction` E[log p(x|z)] and `kl`, nats per point and NaN
    where the objective does not tell them apart; `gradient`, the mean norm of a step's gradient per point; `lr`; `beta`, the
    KL's weight; `validation`, nats per point held out; `seconds`.
    """

    losses: list[float] = field(default_factory=list, repr=False)
    objective: str = ""
    steps: int = 0
    seconds: float = 0.0
    road: str = ""  # whether steps were recorded, and why
    history: list[dict[str, float]] = field(default_factory=list, repr=False)
    stopped: str = ""  # why training ended before its last epoch, if it did


def fit(
    model: Program,
    guide: Program,
    x: Any,
    *,
    epochs: int = 100,
    batch_size: int | None = 128,
    lr: float = 1e-3,
    seed: int = 0,
    objective: ELBO | None = None,
    optimizer: Callable[[Iterable[Tensor], float], Optimizer] = adam,
    schedule: Schedule | None = cosine,
    init: Callable[[Any, Tensor], Any] | str | None = None,
    clip: float | None = None,
    kl_warmup: float = 0.0,
    ema: float | None = None,
    early_stopping: EarlyStopping | None = None,
    precision: str = "fp32",
    record: bool | None = None,
    retry: float | None = None,
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[Fit], None] | None = None,
) -> Fit:
    """Train model and guide, in place, by steps along the gradient of `objective` on batches of x.

    x is (N, ...) on the device and in the type of the parameters, a torch `Dataset`, or an iterable of batches (a `DataLoader`);
    `batch_size` points are drawn without replacement for each step (None: all of them), and the last batch of an epoch may be
    smaller. Under torchrun it is the batch of all processes together.

    - `objective`: a Pyro ELBO object; by default the one that `default_objective` finds for the pair.
    - `optimizer(params, lr)` and `schedule(optimizer, steps)` make torch's own objects; None keeps the learning rate.
    - `init(model, x)` is called before the first step, where a model's own start is not enough: `EM()`, or "em" for it.
    - `clip`: the largest norm of the gradient of a batch's mean loss, in nats.
    - `kl_warmup`: the share of all steps in which the KL's weight rises from 0 to 1.
    - `ema`: the decay of a moving average of the parameters, which the pair has in the end.
    - `early_stopping`: an `EarlyStopping`; the pair has the best epoch's parameters in the end.
    - `precision`: "fp32", "tf32" (matrix products on a GPU) or "bf16" (autocast; parameters stay as they are).
    - `record`: whether a step is recorded and compiled, which costs seconds; None: where there are many steps.
    - `retry`: a factor for the learning rate with which training goes back, once, to the last good epoch if it diverges.
    - `checkpoints`: where the state is kept, and perhaps taken up again.
    - `on_epoch` is called with the fit so far after every epoch.

    A model with `initialise(x)` starts from the data the first time it is fitted. The same seed gives the same run on the
    same machine; torch's random state is left as it was. Modules are left in evaluation mode.

    Raises `Refusal` for pairs and data that have no ELBO per point, `Diverged` when a loss stops being a number, naming the
    epoch, the step, and, where it can be found, the site and the data points.
    """
    _refuse_arguments(epochs, batch_size, lr, clip, kl_warmup, ema, precision, retry)
    started = time.perf_counter()
    device = _device(x, model, guide)
    with fork_rng(device, seed), local_parameters(model, guide), _training_mode(model, guide), _precision(precision):
        source = source_of(x, batch_size, seed, device)
        if early_stopping is not None:
            early_stopping.prepare(source)
        whole = isinstance(source, Resident) and source.size == len(source.rows)
        if not whole and isinstance(guide, AutoGuide):
            raise Refusal(
                "An autoguide has parameters for every point, so it is fitted on all at once: batch_size=None."
            )
        structure = _inspect_all(model, guide, source)
        resuming = checkpoints is not None and checkpoints.resume
        if not resuming:
            _start(model, source, init)
        chosen = objective or default_objective(structure)
        leaves = parameters(source.example[: source.size], guide, model)
        refuse_hidden(leaves, model, guide)
        if not leaves:
            raise Refusal("The pair has no parameters, so there is nothing to fit: evaluate it as it is.")
        if source.steps is None and schedule is not None:
            raise Refusal(
                "x does not say how many batches it has, which a schedule needs: give it __len__, or schedule=None."
            )
        with pyro.validation_enabled(False), warnings.catch_warnings(), flattened(leaves) as flat:
            warnings.filterwarnings("ignore", "Encountered (NaN|\\+inf|-inf)")  # said by blame, with the place
            warnings.filterwarnings(
                "ignore", "Detected call of `lr_scheduler.step"
            )  # a recorded step is no optimizer.step
            training = _Training(
                model, guide, source, structure, chosen, flat, epochs, seed,
                lr=lr, optimizer=optimizer, schedule=schedule, clip=clip, kl_warmup=kl_warmup, ema=ema,
                early_stopping=early_stopping, precision=precision, record=record,
            )  # fmt: skip
            training.started = started
            if resuming and checkpoints is not None:
                training.load(checkpoints.load(device)["training"])
            while True:
                try:
                    training.run(checkpoints, on_epoch, keep_good=retry is not None)
                    break
                except Diverged as error:
                    if retry is None or training.good is None:
                        raise
                    log.warning("%s Going back to epoch %d with lr %g.", error, training.good["epoch"], lr * retry)
                    training.slow_down(retry)
                    retry = None
            return training.finish(checkpoints)


class _Training:
    """A fit under way: what moves, where it stands, and how both are written down and taken up again."""

    def __init__(
        self,
        model: Program,
        guide: Program,
        source: Source,
        structure: Structure,
        objective: ELBO,
        flat: Flat,
        epochs: int,
        seed: int,
        *,
        lr: float,
        optimizer: Callable[[Iterable[Tensor], float], Optimizer],
        schedule: Schedule | None,
        clip: float | None,
        kl_warmup: float,
        ema: float | None,
        early_stopping: EarlyStopping | None,
        precision: str,
        record: bool | None,
    ):
        self.model, self.guide, self.source, self.structure = model, guide, source, structure
        self.objective, self.epochs, self.seed, self.record = objective, epochs, seed, record
        self.make_optimizer, self.make_schedule, self.lr = optimizer, schedule, lr
        self.early_stopping, self.autocast = early_stopping, precision == "bf16"
        self.ranks = Ranks()
        self.device = source.device
        self.total = epochs * (source.steps or 0)
        self.rise = round(kl_warmup * self.total)
        self.beta = torch.ones((), device=self.device)
        self.stores = store_names(structure)
        average = flat.vector.detach().clone() if ema is not None else None
        self.learner = Learner(flat, self._optimizer(flat), optimizer is adam, clip, ema, average)
        self.terms = terms_of(objective, model, guide, source.example[: source.size], structure)
        self.steps: dict[int, Step] = {}  # by the number of points
        self.roads: dict[int, bool] = {}  # whether it was recorded
        self.reason = ""
        self.fit = Fit(objective=type(objective).__name__)
        self.epoch, self.place = 0, 0
        self.sums = [0.0, 0.0, 0.0, 0.0]  # of this epoch: loss, reconstruction, gradient's norm, points
        self.started, self.before = time.perf_counter(), 0.0
        self.good: dict[str, Any] | None = None
        self._schedule(0)

    def _optimizer(self, flat: Flat) -> Optimizer:
        return self.make_optimizer([flat.vector] if self.make_optimizer is adam else flat.leaves, self.lr)

    def _schedule(self, steps: int) -> None:
        """The schedule, after so many steps: it is gone through again, so that no state of torch's need be kept."""
        self.scheduler = self.make_schedule(self.learner.optimizer, self.total) if self.make_schedule else None
        for _ in range(steps if self.scheduler else 0):
            self.scheduler.step()  # type: ignore[union-attr]

    # the loop

    def run(
        self, checkpoints: Checkpoints | None, on_epoch: Callable[[Fit], None] | None, keep_good: bool = False
    ) -> None:
        every = READ_EVERY if self.device.type == "cuda" else 1
        while self.epoch < self.epochs and not self.fit.stopped:
            if keep_good and self.place == 0:
                self.good = self.state()
            waiting: list[tuple[Tensor, Tensor, Tensor | None]] = []
            for x, rows in self.source.batches(self.epoch, self.place):
                waiting.append((self._step(x), x, rows))
                self.place += 1
                if len(waiting) >= every:
                    self._read(waiting)
                    if checkpoints is not None and checkpoints.due():
                        self.save(checkpoints)
            self._read(waiting)
            self._end_epoch()
            if checkpoints is not None and checkpoints.due():
                self.save(checkpoints)
            if on_epoch:
                on_epoch(self.fit)

    def _step(self, x: Tensor) -> Tensor:
        if self.rise:
            self.beta.fill_(min(1.0, self.fit.steps / self.rise))
        step = self.steps.get(len(x)) or self._make_step(x)
        try:
            out = step(self._own(x), self.beta)
        except (torch.OutOfMemoryError, Refusal, Diverged):
            raise
        except (RuntimeError, ValueError) as error:  # a matrix that is no longer positive definite, a scale of NaN
            raise Diverged(
                f"{self._where()}: {in_one_line(error)} Lower the learning rate or floor the variances."
            ) from error
        if self.scheduler:
            self.scheduler.step()
        self.fit.steps += 1
        return out

    def _read(self, waiting: list[tuple[Tensor, Tensor, Tensor | None]]) -> None:
        """Add the steps' losses up on the host. A bad one has moved nothing, so what it was can still be seen."""
        if not waiting:
            return
        for (loss, reconstruction, norm), (_, x, rows) in zip(
            torch.stack([out for out, _, _ in waiting]).tolist(), waiting, strict=True
        ):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self.fit.steps -= 1
                what = f"the loss is {loss}" if not math.isfinite(loss) else "the gradient is not a finite number"
                places = blame(self.model, self.guide, x, rows, self.learner.flat.leaves)
                raise Diverged(
                    f"{self._where()}: {places or what}; lower the learning rate, clip the gradient or floor the variances."
                )
            # a data plate that stands for a subsample scales the loss up to the size of the whole
            share = len(x) / self.structure.full_size if self.structure.full_size else 1.0
            for place, value in enumerate((loss * share, reconstruction * share, norm * len(x), len(x))):
                self.sums[place] += value
        waiting.clear()

    def _end_epoch(self) -> None:
        loss, reconstruction, gradient, points = self.sums
        if points == 0:
            raise Refusal(f"x gave no batches in epoch {self.epoch + 1}: give what can be iterated over again.")
        beta = float(self.beta)
        kl = (loss + reconstruction) / points / beta if beta else math.nan
        known = reconstruction == reconstruction and beta > 0
        self.fit.losses.append(loss / points)
        self.fit.seconds = self.before + time.perf_counter() - self.started
        row = {
            "epoch": self.epoch + 1,
            "steps": self.fit.steps,
            "elbo": reconstruction / points - kl if known else -loss / points,
            "reconstruction": reconstruction / points,
            "kl": kl,
            "gradient": gradient / points,
            "lr": self.learner.optimizer.param_groups[0]["lr"],
            "beta": beta,
            "validation": math.nan,
            "seconds": self.fit.seconds,
        }
        self.sums = [0.0] * 4
        self.epoch, self.place = self.epoch + 1, 0
        if self.early_stopping is not None:
            with self._averaged():
                row["validation"] = self.early_stopping.look(self.model, self.guide, self.structure, self.seed)
            self.early_stopping.remember(self._tensors, self.epoch, row["validation"])
            self.fit.stopped = self.early_stopping.verdict(self.epoch)
        self.fit.history.append(row)

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
            except Unrecordable as error:
                recorded, why = False, str(error)
        self.steps[size] = step or self._stock_step(size) or eager_step(self.learner, loss, self.ranks, size)
        if size == self.source.size or not self.fit.road:
            kind = "a CUDA graph" if self.device.type == "cuda" else "compiled"
            self.fit.road = f"steps recorded and {kind}: {why}" if recorded else f"eager steps: {why}"
            log.info(self.fit.road)
        self.roads[size] = recorded
        return self.steps[size]

    def _road(self, size: int) -> tuple[bool, str]:
        enough = RECORD_FROM.get(self.device.type, RECORD_FROM["cpu"])
        count = self.total if size == self.source.size else self.epochs
        if isinstance(self.terms, str):
            return False, self.terms
        if size in self.roads:
            return self.roads[size], "as before it was resumed"
        if self.record is not None:
            return self.record, f"record={self.record}"
        return count >= enough, f"{count} of them, {'at least' if count >= enough else 'fewer than'} {enough}"

    def _loss(self, size: int, share: slice) -> Loss:
        """What a step minimises, as a function of this process's points and the KL's weight."""
        mine = share.stop - share.start
        weight = mine / size if self.structure.full_size or mine == 0 else 1.0

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
            return terms if weight == 1.0 else Terms(weight * terms.loss, weight * terms.reconstruction)

        return loss

    def _stock_step(self, size: int) -> Step | None:
        """The step of an objective that computes its own gradients."""
        if not isinstance(self.terms, str):
            return None
        if self.ranks.count > 1 or self.rise or self.autocast:
            raise Refusal(
                f"{self.fit.objective} trains in one process, without KL warm-up and in full precision, because {self.terms}: "
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
        return x if self.ranks.count == 1 else x[self.ranks.share(len(x))] if len(x) >= self.ranks.count else x[:1]

    def _where(self) -> str:
        return f"Training stopped at step {self.fit.steps + 1} (epoch {self.epoch + 1})"

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

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, in tensors, numbers, texts and containers of these."""
        learner = self.learner
        if learner.on_vector:
            adam_state(learner)
        held = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return {
            "vector": learner.flat.vector.detach().clone(),
            "buffers": [buffer.clone() for module in modules(self.model, self.guide) for buffer in module.buffers()],
            "optimizer": _cloned(learner.optimizer.state_dict()),
            "average": None if learner.average is None else learner.average.clone(),
            "taken": learner.taken,
            "rng": (torch.get_rng_state(), held),
            "epoch": self.epoch,
            "place": self.place,
            "sums": list(self.sums),
            "roads": dict(self.roads),
            "lr": self.lr,
            "beta": float(self.beta),
            "early_stopping": None if self.early_stopping is None else self.early_stopping.state(),
            "fit": _cloned(vars(self.fit)),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Stand where `state` was taken. Raises `Refusal` where it is another training's."""
        learner, flat = self.learner, self.learner.flat
        try:
            if state["vector"].shape != flat.vector.shape:
                raise ValueError(f"{state['vector'].numel()} parameters, and the pair has {flat.vector.numel()}")
            flat.set(state["vector"])
            with torch.no_grad():
                own = [buffer for module in modules(self.model, self.guide) for buffer in module.buffers()]
                for buffer, value in zip(own, state["buffers"], strict=True):
                    buffer.copy_(value)
            self.lr = state["lr"]
            learner.optimizer = self._optimizer(flat)
            self._schedule(state["fit"]["steps"])
            learner.optimizer.load_state_dict(state["optimizer"])
            if learner.average is not None:
                learner.average.copy_(state["average"])
            learner.taken = state["taken"]
            self.epoch, self.place, self.sums = state["epoch"], state["place"], list(state["sums"])
            self.roads, self.steps = dict(state["roads"]), {}
            self.beta.fill_(state["beta"])
            if self.early_stopping is not None:
                self.early_stopping.load(state["early_stopping"])
            self.fit = Fit(**_cloned(state["fit"]))
            self.before, self.started = self.fit.seconds, time.perf_counter()
            cpu, cuda = state["rng"]
            torch.set_rng_state(cpu.cpu())
            if cuda is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(cuda.cpu(), self.device)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise Refusal(f"The checkpoint is of another training: {in_one_line(error)}") from error

    def slow_down(self, factor: float) -> None:
        """Back to the last good epoch, from where the learning rate is `factor` of what it was."""
        assert self.good is not None
        self.load(self.good)
        self.lr *= factor
        for group in self.learner.optimizer.param_groups:
            group["lr"] *= factor
            group["initial_lr"] = group.get("initial_lr", self.lr) * factor
        if self.scheduler is not None:
            self.scheduler.base_lrs = [base * factor for base in self.scheduler.base_lrs]
        self.good = None

    def save(self, checkpoints: Checkpoints) -> None:
        if self.ranks.first:
            self.fit.seconds = self.before + time.perf_counter() - self.started
            checkpoints.save({"pair": self._tensors(), "training": self.state()})

    def finish(self, checkpoints: Checkpoints | None) -> Fit:
        """Leave the pair with what it is to have, and on disk too."""
        self.fit.seconds = self.before + time.perf_counter() - self.started
        state = self.state()
        final = self._tensors()
        if self.early_stopping is not None and self.early_stopping.best is not None:
            final = self.early_stopping.best
        load_pair_state(final, self.model, self.guide)
        if checkpoints is not None and self.ranks.first:
            checkpoints.save({"pair": final, "training": state})
        return self.fit


def _cloned(value: Any) -> Any:
    """A copy that later steps do not change."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _cloned(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_cloned(part) for part in value)
    return value


def _start(model: Program, source: Source, init: Any) -> None:
    """The model's own start from the data, once, then the caller's."""
    if isinstance(model, StartsFromData) and not bool(model.initialised):
        # What follows is the same, whether the model had to be started or came started.
        with fork_rng(source.device), blamed("model.initialise(x)"):
            model.initialise(source.example)
    if init is not None:
        with fork_rng(source.device), blamed("init(model, x)"):
            _initialiser(init)(model, source.example)


def _initialiser(init: Any) -> Callable[[Any, Tensor], Any]:
    if callable(init):
        return init
    raise Refusal(f"init is {init!r:.40}: give a function of (model, x), such as EM().")


def _device(x: Any, model: Program, guide: Program) -> torch.device:
    """Where the data are; of a stream, where the parameters are."""
    if isinstance(getattr(x, "device", None), torch.device):
        return x.device
    found = [parameter.device for module in modules(model, guide) for parameter in module.parameters()]
    return found[0] if found else torch.device("cpu")


def _refuse_arguments(
    epochs: int,
    batch_size: int | None,
    lr: float,
    clip: float | None,
    kl_warmup: float,
    ema: float | None,
    precision: str,
    retry: float | None,
) -> None:
    if not isinstance(epochs, int) or epochs < 0:
        raise Refusal(f"epochs is {epochs}: give a whole number, at least 0.")
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise Refusal(f"batch_size is {batch_size}: give a whole number, at least 1, or None for all points.")
    if not 0 < lr < math.inf:
        raise Refusal(f"lr is {lr}: give a finite number above 0.")
    if clip is not None and not 0 < clip < math.inf:
        raise Refusal(f"clip is {clip}: give a finite norm above 0, in nats per point.")
    if not 0 <= kl_warmup <= 1:
        raise Refusal(f"kl_warmup is {kl_warmup}: give the share of the steps in which the KL's weight rises, 0 to 1.")
    if ema is not None and not 0 < ema < 1:
        raise Refusal(f"ema is {ema}: give the average's decay, between 0 and 1, such as 0.999.")
    if precision not in ("fp32", "tf32", "bf16"):
        raise Refusal(f"There is no precision '{precision}': give fp32, tf32 or bf16.")
    if retry is not None and not 0 < retry < 1:
        raise Refusal(f"retry is {retry}: give a factor for the learning rate, between 0 and 1.")


@contextlib.contextmanager
def _training_mode(*programs: Program) -> Iterator[None]:
    """Modules in training mode, and in evaluation mode from then on: what is done with them next is scoring."""
    for module in modules(*programs):
        module.train()
    try:
        yield
    finally:
        for module in modules(*programs):
            module.eval()


@contextlib.contextmanager
def _precision(name: str) -> Iterator[None]:
    """TF32 for the matrix products inside, if asked for; torch's setting is left as it was."""
    before = torch.get_float32_matmul_precision()
    if name == "tf32":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _inspect_all(model: Program, guide: Program, source: Source) -> Structure:
    """`inspect` the first batch, and hold all that is there to the support of what it observes."""
    x, size = source.example, source.size
    first = x[:size]
    structure = inspect(model, guide, first)
    observed = observed_sites(structure.model_trace)
    for site in observed:
        if site["value"] is first:
            refuse_value(site, x)
    if any(site["value"] is not first for site in observed):  # a function of x: only a run knows its value
        for batch in x[size:].split(size):
            inspect(model, guide, batch)
    return structure
