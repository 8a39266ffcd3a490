"""MLflow: the metrics of a training, as a run of MLflow."""

import time
from collections.abc import Mapping
from typing import Any

from ..training.callbacks import Training
from .metrics_logger import MetricsLogger

PARAM_LENGTH = 500  # of a value, in every store of MLflow


class MLflow(MetricsLogger):
    """Write the metrics of a training as a run of MLflow: `fit(callbacks=[MLflow("mine")])`.

    Without a `uri` it writes where MLflow does by itself: to `$MLFLOW_TRACKING_URI`, else to `mlflow.db` in the working
    directory. `mlflow ui` shows the runs. It needs `pip install 'pyrovae[mlflow]'`.

    Args:
        experiment: The experiment's name.
        name: The run's name.
        uri: The tracking store, such as "sqlite:///runs/mlflow.db".
        every_steps: How many steps lie between two that are logged; None logs epochs only.
        settings: The run's parameters, such as the options of the model.

    Raises:
        InvalidInputError: mlflow is not installed.

    Example:
        >>> import pyrovae
        >>> logger = pyrovae.adapters.MLflow("mine")  # doctest: +SKIP
        >>> pyrovae.fit(model, guide, x, callbacks=[logger])  # doctest: +SKIP
    """

    library, package = "mlflow", "mlflow"

    def __init__(
        self,
        experiment: str = "pyrovae",
        name: str | None = None,
        uri: str | None = None,
        every_steps: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ):
        super().__init__(every_steps, settings)
        self.experiment, self.name, self.uri = experiment, name, uri
        self.run_id = ""

    def on_start(self, training: Training) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self.client = MlflowClient(tracking_uri=self.uri)
        known = self.client.get_experiment_by_name(self.experiment)
        experiment = known.experiment_id if known else self.client.create_experiment(self.experiment)
        self.run_id = self.client.create_run(experiment, run_name=self.name).info.run_id
        params = [Param(name, str(value)[:PARAM_LENGTH]) for name, value in self.settings.items()]
        self.client.log_batch(self.run_id, params=params)

    def log(self, metrics: dict[str, float], steps: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())  # milliseconds
        self.client.log_batch(self.run_id, [Metric(name, value, now, steps) for name, value in metrics.items()])

    def close(self, failed: bool) -> None:
        if self.run_id:
            self.client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")
