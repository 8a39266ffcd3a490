"""fit(): stochastic variational inference, through the objective that the caller passes."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from pyro.infer import ELBO
from torch import Tensor
from torch.optim import Optimizer

from ..errors import NonFiniteError
from ..pair.execution import ModelOrGuide
from ..pair.structure import Structure
from ..utils.progress import progress_bar
from .arguments import TrainingSettings, check_checkpoints
from .batches import fingerprint
from .checkpoints import Checkpoints
from .early_stopping import EarlyStopping
from .elbo_decline import initial_elbo
from .preparation import prepared_trainer
from .result import FitResult
from .schedules import Schedule, adam, cosine
from .trainer import Trainer

log = logging.getLogger("pyrovae")


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
    structure: Structure | None = None,
    progress: bool = True,
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
    - `on_epoch` is called with the result so far after every epoch.
    - `progress`: whether a bar is shown, in a terminal or a notebook.
    - `structure`: what `validate` has returned for this pair and these data; the pair is then not inspected again.

    A model with `initialise(x)` starts from the data the first time it is fitted. The same seed gives the same run on the
    same machine; torch's random state is left as it was. Modules are left in evaluation mode.

    Raises `InvalidInputError` for pairs and data that have no ELBO per point, `NonFiniteError` when a loss stops being a number, naming the
    epoch, the step, and, where it can be found, the site and the data points.
    """
    settings = TrainingSettings(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        objective=objective,
        optimizer=optimizer,
        schedule=schedule,
        init=init,
        max_grad_norm=max_grad_norm,
        kl_warmup_fraction=kl_warmup_fraction,
        ema_decay=ema_decay,
        early_stopping=early_stopping,
        precision=precision,
        compile=compile,
        retry_lr_factor=retry_lr_factor,
    )
    settings.check()
    check_checkpoints(checkpoints)
    started = time.perf_counter()
    resume = checkpoints is not None and checkpoints.resume
    with prepared_trainer(model, guide, x, settings, structure, start=not resume) as trainer:
        trainer.state.started = started
        if epochs and not resume:
            trainer.result.initial_elbo, trainer.result.initial_elbo_se = initial_elbo(
                model, guide, trainer.source, trainer.structure, seed
            )
        if checkpoints is not None:
            trainer.state.fingerprint["data"] = fingerprint(trainer.source)
            if resume:
                trainer.resume(checkpoints)
        with progress_bar("fit", epochs, progress and trainer.group.first) as advance:
            advance(0, "first epoch: the step may have to be compiled")
            _train(trainer, checkpoints, _with_note(on_epoch, advance), retry_lr_factor)
        result = trainer.finish(checkpoints)
        if result.decline_message and trainer.group.first:
            log.warning(result.decline_message)
        if result.floor_message and trainer.group.first:
            log.info(result.floor_message)  # a property of pair and data, which tables show beside its numbers
        return result


def _with_note(
    on_epoch: Callable[[FitResult], None] | None, advance: Callable[[float, str], None]
) -> Callable[[FitResult], None]:
    """Call `on_epoch`, and say the loss beside the bar."""
    done = 0

    def after_epoch(result: FitResult) -> None:
        nonlocal done
        before, done = done, len(result.losses)  # a training that is resumed begins later, one that diverged goes back
        advance(done - before, f"loss {result.losses[-1]:.4g} a point")
        if on_epoch is not None:
            on_epoch(result)

    return after_epoch


def _train(
    trainer: Trainer,
    checkpoints: Checkpoints | None,
    on_epoch: Callable[[FitResult], None] | None,
    retry_lr_factor: float | None,
) -> None:
    """All epochs; with a factor, training that diverges goes back once and takes a lower learning rate."""
    while True:
        try:
            trainer.fit(checkpoints, on_epoch, keep_good=retry_lr_factor is not None)
            return
        except NonFiniteError as error:
            good = trainer.state.last_good
            if retry_lr_factor is None or good is None:
                raise
            slower = good["lr"] * retry_lr_factor
            log.warning("%s Going back to epoch %d with lr %g.", error, good["epoch"] + 1, slower)
            trainer.retry(retry_lr_factor)
