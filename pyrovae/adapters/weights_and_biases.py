"""WandB: the metrics of a training, as a run of Weights & Biases."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..training.callbacks import Training
from .metrics_logger import MetricsLogger


class WandB(MetricsLogger):
    """Write the metrics of a training as a run of Weights & Biases: `fit(callbacks=[WandB("mine")])`.

    By default nothing leaves the machine. `wandb sync FOLDER/wandb/offline-run-*` sends a run. It needs
    `pip install 'pyrovae[wandb]'`.

    Args:
        project: The project's name.
        name: The run's name.
        folder: The run is in `folder`/wandb.
        mode: "offline", or "online" to send metrics while training goes on.
        every_steps: How many steps lie between two that are logged; None logs epochs only.
        settings: The run's config, such as the options of the model.

    Raises:
        InvalidInputError: wandb is not installed.

    Example:
        >>> import pyrovae
        >>> logger = pyrovae.adapters.WandB("mine")  # doctest: +SKIP
        >>> pyrovae.fit(model, guide, x, callbacks=[logger])  # doctest: +SKIP
    """

    library, package = "wandb", "wandb"

    def __init__(
        self,
        project: str = "pyrovae",
        name: str | None = None,
        folder: str | Path = ".",
        mode: str = "offline",
        every_steps: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ):
        super().__init__(every_steps, settings)
        self.project, self.name, self.folder, self.mode = project, name, Path(folder), mode
        self.run: Any = None

    def on_start(self, training: Training) -> None:
        import wandb

        self.run = wandb.init(
            project=self.project,
            name=self.name,
            dir=str(self.folder),
            mode=self.mode,
            config=self.settings,
            reinit="create_new",  # a run that the caller has open stays open
            settings=wandb.Settings(console="off", silent=True),
        )

    def log(self, metrics: dict[str, float], steps: int) -> None:
        self.run.log(metrics, step=steps)

    def close(self, failed: bool) -> None:
        if self.run is not None:
            self.run.finish(exit_code=int(failed))
