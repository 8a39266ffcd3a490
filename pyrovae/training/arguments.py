"""The arguments of `fit` as one object, and their checks."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyro.infer import ELBO
from torch import Tensor

from ..errors import InvalidInputError, check_int
from ..objectives import HasObjective, HasTerms, name_of
from ..pair.execution import ModelOrGuide
from ..pair.structure import Structure
from .batches import Source
from .checkpoints import Checkpoints
from .early_stopping import EarlyStopping
from .optimizers import MakeOptimizer, resolve_optimizer, resolve_schedule
from .schedules import Schedule, adam, cosine


@dataclass(frozen=True)
class TrainingSettings:
    """How a pair is trained. `fit` describes each of them."""

    epochs: int = 100
    batch_size: int | None = 128
    lr: float = 1e-3
    seed: int = 0
    objective: Any = None
    optimizer: MakeOptimizer = adam
    schedule: Schedule | None = cosine
    init: Callable[[Any, Tensor], Any] | str | None = None
    max_grad_norm: float | None = None
    kl_warmup_fraction: float = 0.0
    ema_decay: float | None = None
    early_stopping: EarlyStopping | None = None
    precision: str = "fp32"
    compile: bool | None = None
    retry_lr_factor: float | None = None

    def __post_init__(self) -> None:
        """Objects of pyro.optim and names of schedules become functions."""
        optimizer, lr = resolve_optimizer(self.optimizer, self.lr)
        for name, value in (("optimizer", optimizer), ("lr", lr), ("schedule", resolve_schedule(self.schedule))):
            object.__setattr__(self, name, value)

    def check(self) -> None:
        """Raise `InvalidInputError` for a value that no training can have."""
        check_int("epochs", self.epochs, 0)
        check_int("seed", self.seed, 0)
        if self.batch_size is not None:
            check_int("batch_size", self.batch_size, 1, why=", or None for all points")
        if not _is_between(self.lr, 0, math.inf):
            raise InvalidInputError(f"lr is {self.lr!r:.40}: give a finite number above 0.")
        if self.max_grad_norm is not None and not _is_between(self.max_grad_norm, 0, math.inf):
            raise InvalidInputError(
                f"max_grad_norm is {self.max_grad_norm!r:.40}: give a finite norm above 0, in nats per point."
            )
        if not _is_between(self.kl_warmup_fraction, 0, 1, closed=True):
            raise InvalidInputError(
                f"kl_warmup_fraction is {self.kl_warmup_fraction!r:.40}: give the share of the steps in which the KL's weight rises, "
                "0 to 1."
            )
        if self.ema_decay is not None and not _is_between(self.ema_decay, 0, 1):
            raise InvalidInputError(
                f"ema_decay is {self.ema_decay!r:.40}: give the average's decay, between 0 and 1, such as 0.999."
            )
        if self.precision not in ("fp32", "tf32", "bf16"):
            raise InvalidInputError(f"There is no precision '{self.precision}': give fp32, tf32 or bf16.")
        if self.retry_lr_factor is not None and not _is_between(self.retry_lr_factor, 0, 1):
            raise InvalidInputError(
                f"retry_lr_factor is {self.retry_lr_factor!r:.40}: give a factor for the learning rate, between 0 and 1."
            )
        if not isinstance(self.early_stopping, EarlyStopping | None):
            raise InvalidInputError(
                f"early_stopping is {self.early_stopping!r:.40}: give EarlyStopping(), of a share of the points or of others."
            )

    def check_length(self, source: Source) -> None:
        """Raise `InvalidInputError` for a setting that needs the number of steps, where the data do not tell it."""
        if source.steps is None and self.schedule is not None:
            raise InvalidInputError(
                "x does not say how many batches it has, which a schedule needs: give it __len__, or schedule=None."
            )
        if source.steps is None and self.kl_warmup_fraction:
            raise InvalidInputError(
                "x does not say how many batches it has, which kl_warmup_fraction is a share of: give it __len__, or kl_warmup_fraction=0."
            )

    def check_objective(self, chosen: Any, guide: ModelOrGuide, structure: Structure) -> None:
        """Raise `InvalidInputError` where `chosen`, the given objective or else the pair's own, cannot train this pair."""
        if isinstance(chosen, str | type):
            name = chosen if isinstance(chosen, str) else f"{chosen.__name__}(…)"
            raise InvalidInputError(
                f"objective={chosen!r} is no objective but the name of one: give the object, such as {name}."
            )
        if not isinstance(chosen, ELBO | HasTerms):
            raise InvalidInputError(
                f"objective={chosen!r:.60} is no Pyro ELBO, and has no terms(model, guide, x): give one of either."
            )
        if self.objective is not None and structure.deterministic_guide and isinstance(guide, HasObjective):
            own = type(guide.objective()).__name__
            if type(self.objective).__name__ != own:
                raise InvalidInputError(
                    f"The guide knows one z for each x, which {name_of(self.objective)} has no gradient of: leave objective "
                    f"out, and the guide's own, {own}, trains it."
                )
        if isinstance(chosen, ELBO):
            return
        if self.kl_warmup_fraction:
            raise InvalidInputError(
                f"kl_warmup_fraction weights the KL of Pyro's objectives, and {name_of(chosen)} knows nothing of it: leave kl_warmup_fraction "
                "out, or give fit an objective, such as objective=Trace_ELBO()."
            )


def _is_between(value: Any, low: float, high: float, closed: bool = False) -> bool:
    """Whether the value is a number between the two, or one of them if the interval is closed. A text or a list is not."""
    try:
        return bool(low <= value <= high if closed else low < value < high)
    except (TypeError, ValueError, RuntimeError):
        return False


def check_checkpoints(checkpoints: Any) -> None:
    """Raise `InvalidInputError` unless `checkpoints` is a `Checkpoints` or None."""
    if not isinstance(checkpoints, Checkpoints | None):
        raise InvalidInputError(f"checkpoints is {checkpoints!r:.40}: give Checkpoints(folder).")


def recipe_arguments(recipe: Mapping[str, Any], num_points: int, **settings: Any) -> dict[str, Any]:
    """Arguments of `fit` for so many points: those of `settings` that are not None, else those of a recipe (TRAINING_DEFAULTS).

    A recipe's `steps` are as many epochs as they need.
    """
    arguments = {**recipe, **{key: value for key, value in settings.items() if value is not None}}
    steps, batch = arguments.pop("steps", None), min(arguments.get("batch_size") or num_points, num_points)
    if steps is not None and settings.get("epochs") is None:
        arguments["epochs"] = -(-steps // -(-num_points // batch))
    return arguments
