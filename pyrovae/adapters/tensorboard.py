"""TensorBoard: the metrics of a training, as event files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..training.callbacks import Training
from .metrics_logger import MetricsLogger


class TensorBoard(MetricsLogger):
    """Write the metrics of a training for TensorBoard: `fit(callbacks=[TensorBoard(folder)])`.

    `tensorboard --logdir FOLDER` shows them. It needs `pip install 'pyrovae[tensorboard]'`.

    Args:
        folder: Where the event files are written.
        every_steps: How many steps lie between two that are logged; None logs epochs only.
        settings: Shown as text, such as the options of the model.

    Raises:
        InvalidInputError: TensorBoard is not installed.

    Example:
        >>> import pyrovae
        >>> logger = pyrovae.adapters.TensorBoard("runs/mine")  # doctest: +SKIP
        >>> pyrovae.fit(model, guide, x, callbacks=[logger])  # doctest: +SKIP
    """

    library, package = "torch.utils.tensorboard", "tensorboard"

    def __init__(self, folder: str | Path, every_steps: int | None = None, settings: Mapping[str, Any] | None = None):
        super().__init__(every_steps, settings)
        self.folder = Path(folder)

    def on_start(self, training: Training) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.folder))
        if self.settings:
            lines = "\n".join(f"- {name}: {value}" for name, value in self.settings.items())
            self.writer.add_text("settings", lines)

    def log(self, metrics: dict[str, float], steps: int) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, steps)

    def close(self, failed: bool) -> None:
        if hasattr(self, "writer"):
            self.writer.close()
