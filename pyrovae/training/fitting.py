"""fit(): stochastic variational inference, through the objective that the caller passes."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro.infer import ELBO
from pyro.optim.optim import PyroOptim
from torch import Tensor

from ..data.columns import rounding_message
from ..errors import NonFiniteError
from ..pair.execution import ModelOrGuide
from ..pair.structure import Structure
from ..utils.progress import progress_bar
from .arguments import TrainingSettings, check_checkpoints
from .batches import fingerprint
from .callbacks import Callback, CallbackError, check_callbacks
from .checkpoints import Checkpoints
from .early_stopping import EarlyStopping
from .elbo_decline import initial_elbo
from .optimizers import MakeOptimizer
from .preparation import prepared_trainer
from .result import FitResult
from .schedules import Schedule, adam, cosine
from .trainer import Trainer

log = logging.getLogger("pyrovae")

IN_DOUBLE = "Read the data in double precision and use model.double() and guide.double(), or subtract an offset before."


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
    optimizer: MakeOptimizer | PyroOptim = adam,
    schedule: Schedule | str | None = cosine,
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
    callbacks: Sequence[Callback] = (),
    structure: Structure | None = None,
    progress: bool = True,
) -> FitResult:
    """Train model and guide, in place, by stochastic variational inference.

    A model with `initialise(x)` starts from the data the first time it is fitted. The same seed gives the same run on
    the same machine. The random state of torch is left as it was. Modules are left in evaluation mode.

    Args:
        model: The model, a function of x.
        guide: The guide, a function of x.
        x: Points (N, ...) on the device and in the type of the parameters, a torch `Dataset`, or an iterable of
            batches such as a `DataLoader`.
        epochs: How many times all points are used.
        batch_size: Points for each step, drawn without replacement; None takes all. The last batch of an epoch may be
            smaller. Under torchrun it is the batch of all processes together.
        lr: The learning rate at the start.
        seed: Of all random numbers.
        objective: One of `pyrovae.objectives`, such as `DReG(50)`, or any Pyro ELBO object. Default:
            `guide.objective()`, or else the estimator of the ELBO that `default_objective` finds for the pair.
        optimizer: A class of torch's optimisers, a function of (params, lr) that returns one, or an object such as
            `pyro.optim.Adam({"lr": 1e-3})`, whose learning rate counts. `LBFGS` needs a loss without noise.
        schedule: A function of (optimizer, steps) that returns a torch schedule, "cosine", "iwae_schedule",
            "with_warmup" or "constant"; None keeps the learning rate. `ReduceLROnPlateau` looks at the loss of each
            epoch, or at the ELBO of `early_stopping`.
        init: A function of (model, x), called before the first step: `EM()`, or "em" for it.
        max_grad_norm: The largest norm of the gradient of a batch's mean loss, in nats.
        kl_warmup_fraction: The fraction of all steps in which the weight of the KL rises from 0 to 1.
        ema_decay: The decay of a moving average of the parameters. The pair has the average in the end.
        early_stopping: An `EarlyStopping`. The pair has the parameters of the best epoch in the end.
        precision: "fp32", "tf32" (matrix products on a GPU) or "bf16" (autocast; parameters stay as they are), where
            bfloat16 is faster on the device.
        compile: Whether to compile the step, which takes seconds. Default: only for long runs. Shorter ones repeat
            the recorded tensor operations of a step without Pyro. False runs the pair itself at every step, as a
            debugger or a `print` in it needs.
        retry_lr_factor: If training diverges, go back once to the last good epoch, with the learning rate times this
            factor.
        checkpoints: A `Checkpoints`: where the state is kept, and resumed from.
        on_epoch: Called with the result so far after every epoch.
        callbacks: Objects of `pyrovae.Callback`, called at the start, after steps and epochs, and at the end. Those of
            `pyrovae.adapters` write to TensorBoard, Weights & Biases, MLflow and loggers of Lightning.
        progress: Whether to show a bar in a terminal or a notebook.
        structure: What `validate` has returned for this pair and these data, so that the pair is not inspected again.

    Returns:
        How training went.

    Raises:
        InvalidInputError: The pair or the data have no ELBO of each point, or an argument is not valid.
        NonFiniteError: A loss is NaN or infinite. The message names the epoch, the step and, if they can be found,
            the site and the data points.
        RunError: A callback failed. The message names it and the step.

    References:
        Hoffman, Blei, Wang & Paisley (2013). Stochastic variational inference.
        Kingma & Welling (2014). Auto-encoding variational Bayes.

    Example:
        >>> import pyrovae, torch
        >>> x = torch.randn(200, 4) @ torch.randn(4, 4)
        >>> model, guide = pyrovae.load("ppca")(4, latent=2)
        >>> fit = pyrovae.fit(model, guide, x, epochs=3, objective=pyrovae.objectives.IWAE(5))
        >>> len(fit.history), fit.history[-1]["epoch"]
        (3, 3)
    """
    settings = TrainingSettings(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        objective=objective,
        optimizer=optimizer,
        schedule=schedule,  # type: ignore[arg-type]
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
    check_callbacks(callbacks)
    started = time.perf_counter()
    resume = checkpoints is not None and checkpoints.resume
    with prepared_trainer(model, guide, x, settings, structure, start=not resume) as trainer:
        trainer.state.started = started
        if message := _rounding(trainer):
            log.warning(message)
        if epochs and not resume:
            trainer.result.initial_elbo, trainer.result.initial_elbo_se = initial_elbo(
                model, guide, trainer.source, trainer.structure, seed
            )
        if checkpoints is not None:
            trainer.state.fingerprint["data"] = fingerprint(trainer.source)
            if resume:
                trainer.resume(checkpoints)
        trainer.call_back(callbacks)
        try:
            trainer.callbacks.start()
            with progress_bar("fit", epochs, progress and trainer.group.first) as advance:
                advance(0, "first epoch: the step may have to be compiled")
                _train(trainer, checkpoints, _with_note(on_epoch, advance), retry_lr_factor)
            result = trainer.finish(checkpoints)
        except BaseException as error:
            if isinstance(error, CallbackError) and checkpoints is not None and trainer.result.steps:
                trainer.save(checkpoints)
            trainer.callbacks.end(error)
            raise
        trainer.callbacks.end()
        if result.decline_message and trainer.group.first:
            log.warning(result.decline_message)
        if result.floor_message and trainer.group.first:
            log.info(result.floor_message)  # a property of pair and data, which tables show beside its numbers
        return result


def _rounding(trainer: Trainer) -> str:
    """A sentence where a float32 tensor does not tell the values of a column apart; else ""."""
    x = trainer.source.example
    if x.dtype != torch.float32 or x.dim() != 2 or trainer.structure.base_measure == "counting":
        return ""
    return rounding_message(x.double(), (), IN_DOUBLE)


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
