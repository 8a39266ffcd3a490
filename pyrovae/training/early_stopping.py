"""Early stopping: the epoch whose parameters are best for points that are not trained on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInputError
from ..missing import assume_missing
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.importance_weights import log_weights_unchecked
from ..pair.structure import Structure
from ..pair.validation import check_points
from ..utils.random import fork_rng
from .batches import InMemoryBatches, Source

ROWS = 4096  # points that are scored at once


class EarlyStopping:
    """End training when the ELBO of held-out points stops rising, and return to the best epoch.

    Training ends after `patience` epochs without a gain of `min_delta`. Each epoch is measured with the same noise,
    so that epochs differ by their parameters alone.

    Args:
        validation: The held-out points (M, ...), or the fraction of the training data to hold out.
        patience: Epochs to wait for a gain.
        min_delta: The smallest gain that counts, in nats per point.
        num_samples: Draws for each point.

    Raises:
        InvalidInputError: A fraction is not between 0 and 1; `patience` or `num_samples` is below 1.

    Example:
        >>> import pyrovae
        >>> stopping = pyrovae.EarlyStopping(validation=0.1, patience=20)  # for fit(early_stopping=stopping)
    """

    def __init__(
        self, validation: Tensor | float = 0.1, patience: int = 10, min_delta: float = 0.0, num_samples: int = 1
    ):
        if not isinstance(validation, Tensor) and not 0 < validation < 1:
            raise InvalidInputError(
                f"validation is {validation}: give points to validate on, or the share of the data to hold out."
            )
        if patience < 1 or num_samples < 1:
            raise InvalidInputError("patience and num_samples must be at least 1.")
        self.validation, self.patience, self.min_delta, self.num_samples = validation, patience, min_delta, num_samples
        self.x: Tensor | None = None
        self.best: dict[str, Any] | None = None  # the best epoch's pair
        self.best_epoch, self.best_value = 0, -float("inf")

    def prepare(self, source: Source, missing: bool = False) -> None:
        """Hold out points from the source, if a fraction was asked for, and forget an earlier training.

        With `missing`, the points to validate on may have missing entries.
        """
        if isinstance(self.validation, Tensor):
            check_points(self.validation, missing)
            self.x = self.validation.to(source.device)
        elif isinstance(source, InMemoryBatches):
            self.x = source.hold_out(self.validation)
        else:
            raise InvalidInputError(
                "A stream cannot be split: give EarlyStopping the points to validate on, as a tensor."
            )
        self.best, self.best_epoch, self.best_value = None, 0, -float("inf")
        self.measured = "ELBO"

    def look(self, model: ModelOrGuide, guide: ModelOrGuide, structure: Structure, seed: int) -> float:
        """Return the mean ELBO of the held-out points, nats per point."""
        assert self.x is not None
        if structure.no_density:
            self.measured = "reconstruction"
        with evaluation_mode(model, guide), torch.no_grad(), fork_rng(self.x.device, seed), assume_missing(None):
            parts = [
                log_weights_unchecked(model, guide, x, self.num_samples, structure.max_plate_nesting)
                for x in self.x.split(ROWS)
            ]
        return float(torch.cat([part.double().mean(0) for part in parts]).mean())

    def remember(self, pair: Callable[[], dict[str, Any]], epoch: int, value: float) -> None:
        if value > self.best_value + self.min_delta:
            self.best, self.best_epoch, self.best_value = pair(), epoch, value

    def stop_reason(self, epoch: int) -> str:
        """Why to stop, or nothing."""
        if epoch - self.best_epoch < self.patience:
            return ""
        unit = "nats per point" if self.measured == "ELBO" else "per point"
        return (
            f"the held-out {self.measured}, {self.best_value:.3f} {unit} after epoch {self.best_epoch}, has not risen for "
            f"{self.patience} epochs"
        )

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "best_value": self.best_value}

    def load(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch, self.best_value = state["best"], state["best_epoch"], state["best_value"]
