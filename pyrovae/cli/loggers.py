"""The programs that `pyrovae train --log-to` knows, each with the logger that writes to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInputError, did_you_mean

if TYPE_CHECKING:
    from ..runs.run import Run
    from ..training.callbacks import Callback

PROGRAMS = {"tensorboard": "TensorBoard", "wandb": "WandB", "mlflow": "MLflow"}  # and their classes


def check_loggers(names: Sequence[str]) -> None:
    """Refuse a program that is not known or not installed: better before an hour of work than after it."""
    from .. import adapters

    for name in names:
        if name not in PROGRAMS:
            raise InvalidInputError(
                f"--log-to knows no {name}{did_you_mean(name, PROGRAMS)}: give {', '.join(PROGRAMS)}."
            )
        getattr(adapters, PROGRAMS[name]).imported()


def make_loggers(names: Sequence[str], run: "Run", folder: Path) -> list["Callback"]:
    """The loggers of a run, each with the run's settings. MLflow writes where it does by itself, the others to the folder."""
    from .. import adapters

    config = run.config
    settings: dict[str, Any] = {
        "model": config.model,
        "data": config.data,
        "seed": config.seed,
        **config.resolved_options,
        **config.fit_arguments,
    }
    title = str(folder.resolve().name)
    makers = {
        "tensorboard": lambda: adapters.TensorBoard(folder, settings=settings),
        "wandb": lambda: adapters.WandB(name=title, folder=folder, settings=settings),
        "mlflow": lambda: adapters.MLflow(name=title, settings=settings),
    }
    return [makers[name]() for name in dict.fromkeys(names)]
