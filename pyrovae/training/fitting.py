"""fit(): stochastic variational inference, through the objective that the caller passes."""

import contextlib
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import pyro
import torch
from pyro.infer import ELBO
from pyro.infer.autoguide import AutoGuide
from torch import Tensor
from torch.optim import Optimizer

from ..errors import InvalidInputError, NonFiniteError, user_code_errors
from ..objectives import HasObjective, HasTerms, name_of, resolve_objective
from ..pair.execution import ModelOrGuide, local_parameters, modules
from ..pair.parameters import check_registered, unconstrained_parameters
from ..pair.sites import observed_sites
from ..pair.structure import Structure, inspect_pair
from ..pair.validation import check_value
from ..utils.distributed import ProcessGroup
from ..utils.random import fork_rng
from .batches import InMemoryBatches, Source, fingerprint, source_of
from .checkpoints import Checkpoints
from .early_stopping import ROWS, EarlyStopping
from .elbo_decline import initial_elbo
from .em import EM
from .flat_parameters import flatten_parameters
from .result import FitResult
from .schedules import Schedule, adam, cosine
from .trainer import Trainer

log = logging.getLogger("pyrovae")


@runtime_checkable
class StartsFromData(Protocol):
    """A model that begins at values computed from data. `fit` calls `initialise` once, unless `initialised` is true."""

    initialised: Tensor

    def initialise(self, x: Tensor) -> None: ...


def fit(
    model: ModelOrGuide,
    guide: ModelOrGuide,
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
    max_grad_norm: float | None = None,
    kl_warmup_fraction: float = 0.0,
    ema_decay: float | None = None,
    early_stopping: EarlyStopping | None = None,
    precision: str = "fp32",
    compile: bool | None = None,
    retry_lr_factor: float | None = None,
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[FitResult], None] | None = None,
) -> FitResult:
    """Train model and guide, in place, by steps along the gradient of `objective` on batches of x.

    x is (N, ...) on the device and in the type of the parameters, a torch `Dataset`, or an iterable of batches (a `DataLoader`);
    `batch_size` points are drawn without replacement for each step (None: all of them), and the last batch of an epoch may be
    smaller. Under torchrun it is the batch of all processes together.

    - `objective`: one of `pyrovae.objectives` (`DReG(50)`), or any Pyro ELBO object; by default the guide's own,
      `guide.objective()`, or the estimator of the ELBO that `default_objective` finds for the pair.
    - `optimizer(params, lr)` and `schedule(optimizer, steps)` make torch's own objects; None keeps the learning rate.
    - `init(model, x)` is called before the first step, where a model's own start is not enough: `EM()`, or "em" for it.
    - `max_grad_norm`: the largest norm of the gradient of a batch's mean loss, in nats.
    - `kl_warmup_fraction`: the share of all steps in which the KL's weight rises from 0 to 1.
    - `ema_decay`: the decay of a moving average of the parameters, which the pair has in the end.
    - `early_stopping`: an `EarlyStopping`; the pair has the best epoch's parameters in the end.
    - `precision`: "fp32", "tf32" (matrix products on a GPU) or "bf16" (autocast; parameters stay as they are).
    - `compile`: whether a step is recorded and compiled, which costs seconds; None: where there are many steps.
    - `retry_lr_factor`: a factor for the learning rate with which training goes back, once, to the last good epoch if it diverges.
    - `checkpoints`: where the state is kept, and perhaps taken up again.
    - `on_epoch` is called with the fit so far after every epoch.

    A model with `initialise(x)` starts from the data the first time it is fitted. The same seed gives the same run on the
    same machine; torch's random state is left as it was. Modules are left in evaluation mode.

    Raises `InvalidInputError` for pairs and data that have no ELBO per point, `NonFiniteError` when a loss stops being a number, naming the
    epoch, the step, and, where it can be found, the site and the data points.
    """
    _check_arguments(epochs, batch_size, lr, max_grad_norm, kl_warmup_fraction, ema_decay, precision, retry_lr_factor)
    _check_objects(early_stopping, checkpoints)
    started = time.perf_counter()
    device = _device(x, model, guide)
    with fork_rng(device, seed), local_parameters(model, guide), _training_mode(model, guide), _precision(precision):
        source = source_of(x, batch_size, seed, device)
        if early_stopping is not None:
            early_stopping.prepare(source)
        whole = isinstance(source, InMemoryBatches) and source.size == len(source.rows)
        if not whole and isinstance(guide, AutoGuide):
            raise InvalidInputError(
                "An autoguide has parameters for every point, so it is fitted on all at once: batch_size=None."
            )
        structure = _inspect_all(model, guide, source)
        if early_stopping is not None and early_stopping.x is not None:
            inspect_pair(model, guide, early_stopping.x[:ROWS], scored=False)
        if checkpoints is None or not checkpoints.resume:
            _start(model, source, init)
        chosen = objective if objective is not None else resolve_objective(guide, structure)
        _check_objective(chosen, objective, guide, structure, kl_warmup_fraction)
        leaves = unconstrained_parameters(source.example[: source.size], guide, model)
        check_registered(leaves, model, guide)
        if not leaves:
            raise InvalidInputError("The pair has no parameters, so there is nothing to fit: evaluate it as it is.")
        if source.steps is None and schedule is not None:
            raise InvalidInputError(
                "x does not say how many batches it has, which a schedule needs: give it __len__, or schedule=None."
            )
        if source.steps is None and kl_warmup_fraction:
            raise InvalidInputError(
                "x does not say how many batches it has, which kl_warmup_fraction is a share of: give it __len__, or kl_warmup=0."
            )
        with pyro.validation_enabled(False), warnings.catch_warnings(), flatten_parameters(leaves) as flat:
            warnings.filterwarnings("ignore", "Encountered (NaN|\\+inf|-inf)")  # said by blame, with the place
            warnings.filterwarnings(
                "ignore", "Detected call of `lr_scheduler.step"
            )  # a recorded step is no optimizer.step
            training = Trainer(
                model, guide, source, structure, chosen, flat, epochs, seed,
                lr=lr, optimizer=optimizer, schedule=schedule, max_grad_norm=max_grad_norm, kl_warmup_fraction=kl_warmup_fraction, ema_decay=ema_decay,
                early_stopping=early_stopping, precision=precision, compile=compile,
            )  # fmt: skip
            training.started = started
            if epochs and (checkpoints is None or not checkpoints.resume):
                training.result.initial_elbo, training.result.initial_elbo_se = initial_elbo(
                    model, guide, source, structure, seed
                )
            if checkpoints is not None:
                training.task["data"] = fingerprint(source)
            if checkpoints is not None and checkpoints.resume:
                training.ranks.barrier()  # what is being written is whole before any reads
                training.resume(checkpoints.load(device)["training"])
                training.ranks.barrier()
            while True:
                try:
                    training.fit(checkpoints, on_epoch, keep_good=retry_lr_factor is not None)
                    break
                except NonFiniteError as error:
                    if retry_lr_factor is None or training.good is None:
                        raise
                    slower = training.good["lr"] * retry_lr_factor
                    log.warning("%s Going back to epoch %d with lr %g.", error, training.good["epoch"] + 1, slower)
                    training.slow_down(retry_lr_factor)
            done = training.finish(checkpoints)
            if done.warning and training.ranks.first:
                log.warning(done.warning)
            return done


def _start(model: ModelOrGuide, source: Source, init: Any) -> None:
    """The model's own start from the data, once, then the caller's."""
    if isinstance(model, StartsFromData) and not bool(model.initialised):
        # What follows is the same, whether the model had to be started or came started.
        with fork_rng(source.device), user_code_errors("model.initialise(x)"):
            model.initialise(source.example)
    if init is not None:
        with fork_rng(source.device), user_code_errors("init(model, x)"):
            _initialiser(init)(model, source.example)


def _initialiser(init: Any) -> Callable[[Any, Tensor], Any]:
    if init == "em":
        return EM()
    if callable(init):
        return init
    raise InvalidInputError(f"init is {init!r:.40}: give a function of (model, x), such as EM(), or 'em' for it.")


def _device(x: Any, model: ModelOrGuide, guide: ModelOrGuide) -> torch.device:
    """Where the data are; of a stream, where the parameters are."""
    if isinstance(getattr(x, "device", None), torch.device):
        return x.device
    found = [parameter.device for module in modules(model, guide) for parameter in module.parameters()]
    return found[0] if found else torch.device("cpu")


def _check_arguments(
    epochs: int,
    batch_size: int | None,
    lr: float,
    max_grad_norm: float | None,
    kl_warmup_fraction: float,
    ema_decay: float | None,
    precision: str,
    retry_lr_factor: float | None,
) -> None:
    if not isinstance(epochs, int) or epochs < 0:
        raise InvalidInputError(f"epochs is {epochs}: give a whole number, at least 0.")
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise InvalidInputError(f"batch_size is {batch_size}: give a whole number, at least 1, or None for all points.")
    if not 0 < lr < math.inf:
        raise InvalidInputError(f"lr is {lr}: give a finite number above 0.")
    if max_grad_norm is not None and not 0 < max_grad_norm < math.inf:
        raise InvalidInputError(f"max_grad_norm is {max_grad_norm}: give a finite norm above 0, in nats per point.")
    if not 0 <= kl_warmup_fraction <= 1:
        raise InvalidInputError(
            f"kl_warmup_fraction is {kl_warmup_fraction}: give the share of the steps in which the KL's weight rises, 0 to 1."
        )
    if ema_decay is not None and not 0 < ema_decay < 1:
        raise InvalidInputError(f"ema_decay is {ema_decay}: give the average's decay, between 0 and 1, such as 0.999.")
    if precision not in ("fp32", "tf32", "bf16"):
        raise InvalidInputError(f"There is no precision '{precision}': give fp32, tf32 or bf16.")
    if retry_lr_factor is not None and not 0 < retry_lr_factor < 1:
        raise InvalidInputError(
            f"retry_lr_factor is {retry_lr_factor}: give a factor for the learning rate, between 0 and 1."
        )


def _check_objective(
    chosen: Any, asked: Any, guide: ModelOrGuide, structure: Structure, kl_warmup_fraction: float
) -> None:
    """`chosen` is what would be minimised, `asked` what the caller gave."""
    if isinstance(chosen, str | type):
        name = chosen if isinstance(chosen, str) else f"{chosen.__name__}(…)"
        raise InvalidInputError(
            f"objective={chosen!r} is no objective but the name of one: give the object, such as {name}."
        )
    if not isinstance(chosen, ELBO | HasTerms):
        raise InvalidInputError(
            f"objective={chosen!r:.60} is no Pyro ELBO, and has no terms(model, guide, x): give one of either."
        )
    if asked is not None and structure.deterministic_guide and isinstance(guide, HasObjective):
        own = type(guide.objective()).__name__
        if type(asked).__name__ != own:
            raise InvalidInputError(
                f"The guide knows one z for each x, which {name_of(asked)} has no gradient of: leave objective out, and the guide's own, "
                f"{own}, trains it."
            )
    if isinstance(chosen, ELBO):
        return
    if kl_warmup_fraction:
        raise InvalidInputError(
            f"kl_warmup weights the KL of Pyro's objectives, and {name_of(chosen)} knows nothing of it: leave kl_warmup out, or give "
            "fit an objective, such as objective=Trace_ELBO()."
        )
    if ProcessGroup().count > 1:
        raise InvalidInputError(
            f"{name_of(chosen)} may draw noise of its own, the same in every process: train in one process, or give fit an objective, "
            "such as objective=Trace_ELBO()."
        )


def _check_objects(early_stopping: Any, checkpoints: Any) -> None:
    if not isinstance(early_stopping, EarlyStopping | None):
        raise InvalidInputError(
            f"early_stopping is {early_stopping!r:.40}: give EarlyStopping(), of a share of the points or of others."
        )
    if not isinstance(checkpoints, Checkpoints | None):
        raise InvalidInputError(f"checkpoints is {checkpoints!r:.40}: give Checkpoints(folder).")


@contextlib.contextmanager
def _training_mode(*programs: ModelOrGuide) -> Iterator[None]:
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


def _inspect_all(model: ModelOrGuide, guide: ModelOrGuide, source: Source) -> Structure:
    """`inspect_pair` the first batch, and hold all that is there to the support of what it observes."""
    x, size = source.example, source.size
    first = x[:size]
    structure = inspect_pair(model, guide, first, scored=False)
    observed = observed_sites(structure.model_trace)
    for site in observed:
        if site["value"] is first:
            check_value(site, x)
    if any(site["value"] is not first for site in observed):  # a function of x: only a run knows its value
        for batch in x.split(size)[1:]:
            inspect_pair(model, guide, batch, scored=False)
    return structure
