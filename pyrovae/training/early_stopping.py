"""Early stopping: the epoch whose parameters are best for points that are not trained on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.importance_weights import log_weights_unchecked
from ..pair.structure import Structure
from ..pair.validation import check_points
from ..utils.random import fork_rng
from .batches import InMemoryBatches, Source

ROWS = 4096  # points that are scored at once


class EarlyStopping:
    """End training when the ELBO of held-out points has not risen by `min_delta` for `patience` epochs, and go back to the best.

    `validation` (M, ...) are those points, or the share of the training data that is held out for it (0.1: a tenth). Each look
    draws the same noise, `num_samples` draws a point, so that epochs differ by their parameters alone.
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

    def prepare(self, source: Source) -> None:
        """Take the points from the source, where they are a share of it, and forget an earlier training."""
        if isinstance(self.validation, Tensor):
            check_points(self.validation)
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
        """The mean ELBO of the held-out points, nats per point."""
        assert self.x is not None
        if structure.no_density:
            self.measured = "reconstruction"
        with evaluation_mode(model, guide), torch.no_grad(), fork_rng(self.x.device, seed):
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
