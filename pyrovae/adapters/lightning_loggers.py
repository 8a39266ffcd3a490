"""LightningLogger: the metrics of a training, to any logger of Lightning."""

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidInputError
from ..training.callbacks import Training
from .metrics_logger import MetricsLogger


class LightningLogger(MetricsLogger):
    """Hand the metrics of a training to a logger of Lightning, such as `CSVLogger` or `NeptuneLogger`.

    It imports nothing of Lightning: any object with `log_metrics`, `log_hyperparams` and `finalize` will do.

    Args:
        logger: The logger.
        every_steps: How many steps lie between two that are logged; None logs epochs only.
        settings: The hyperparameters, such as the options of the model.

    Raises:
        InvalidInputError: `logger` lacks a method of Lightning's loggers.

    Example:
        >>> import pyrovae
        >>> logger = pyrovae.adapters.LightningLogger(CSVLogger("logs"))  # doctest: +SKIP
        >>> pyrovae.fit(model, guide, x, callbacks=[logger])  # doctest: +SKIP
    """

    def __init__(self, logger: Any, every_steps: int | None = None, settings: Mapping[str, Any] | None = None):
        super().__init__(every_steps, settings)
        for name in ("log_metrics", "log_hyperparams", "finalize"):
            if not callable(getattr(logger, name, None)) or isinstance(logger, type):
                raise InvalidInputError(
                    f"{logger!r:.60} is no logger of Lightning, for it has no method {name}: give an object such as CSVLogger('logs')."
                )
        self.logger = logger

    def on_start(self, training: Training) -> None:
        self.logger.log_hyperparams(self.settings)

    def log(self, metrics: dict[str, float], steps: int) -> None:
        self.logger.log_metrics(metrics, step=steps)

    def close(self, failed: bool) -> None:
        self.logger.finalize("failed" if failed else "success")
