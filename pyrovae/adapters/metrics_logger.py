"""MetricsLogger: a callback that hands the metrics of a training to another program."""

import math
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from ..errors import InvalidInputError
from ..training.callbacks import Callback, Training

NOT_METRICS = ("epoch", "step", "steps")  # they say when, and stand on the axis


class MetricsLogger(Callback):
    """Writes the metrics of each epoch, and of every so many steps. A class for each program says how.

    Metrics of an epoch have the keys of `FitResult.history`, and those of a step begin with "step/". The axis is the
    number of steps. Losses and ELBOs are in nats per point. A metric that is NaN is left out.

    Args:
        every_steps: How many steps lie between two that are logged; None logs epochs only.
        settings: What is to stand beside the metrics, such as the options of the model.
    """

    library, package = "", ""  # the module that is imported, and what pip calls it

    def __init__(self, every_steps: int | None = None, settings: Mapping[str, Any] | None = None):
        self.every_steps, self.settings = every_steps, dict(settings or {})
        self.imported()

    @classmethod
    def imported(cls) -> ModuleType | None:
        """The program's module. Raises `InvalidInputError` where it is not installed."""
        if not cls.library:
            return None
        try:
            return import_module(cls.library)
        except ImportError as error:
            raise InvalidInputError(
                f"{cls.package} is not installed: run pip install '{cls.package}', or log to another program."
            ) from error

    def log(self, metrics: dict[str, float], steps: int) -> None:
        """Write metrics of the training after so many steps."""
        raise NotImplementedError

    def close(self, failed: bool) -> None:
        """Write what is left, and close what is open."""

    def on_step(self, training: Training, metrics: dict[str, float]) -> None:
        self.log({f"step/{name}": value for name, value in _metrics(metrics).items()}, int(metrics["step"]))

    def on_epoch(self, training: Training, metrics: dict[str, float]) -> None:
        self.log(_metrics(metrics), int(metrics["steps"]))

    def on_end(self, training: Training) -> None:
        self.close(failed=training.error is not None)


def _metrics(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name not in NOT_METRICS and not math.isnan(value)}
