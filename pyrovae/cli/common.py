"""What the commands share: training and scoring under a progress bar, opening a run, devices."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import InvalidInputError
from ..utils.torchrun import are_several
from .errors import warnings_on_stderr
from .processes import tell

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress

    from ..data.datasets import Data
    from ..evaluation.result import Evidence
    from ..runs.run import Run
    from ..training.callbacks import Callback
    from ..training.result import FitResult


def train_with_progress(
    progress: "Progress",
    run: "Run",
    data: "Data",
    folder: Path | None,
    callbacks: "Sequence[Callback]" = (),
    *,
    resume: bool = False,
) -> None:
    """Train under a bar."""
    from ..runs import run as runs

    epochs = run.config.fit_arguments["epochs"]
    task = progress.add_task(f"train {run.name}", total=epochs, note="")

    def on_epoch(fit: "FitResult") -> None:
        row = fit.history[-1]
        parts = "" if math.isnan(row["kl"]) else f" = {row['reconstruction']:.2f} − KL {row['kl']:.2f}"
        rate = fit.steps / fit.seconds if fit.seconds else 0.0
        has_elbo = not (fit.no_density or math.isnan(row["elbo"]))
        score = f"ELBO {row['elbo']:.2f}{parts} nats/point" if has_elbo else f"loss {fit.losses[-1]:.4g} a point"
        note = f"{score}, {rate:.0f} steps/s"
        progress.update(task, completed=len(fit.losses), note=note)

    with warnings_on_stderr(run.name):
        runs.train_run(run, data, folder, on_epoch, callbacks=callbacks, resume=resume)


def in_units_of(data: "Data", fit: "FitResult") -> "FitResult":
    """The training with its ELBOs in the units of the data, as `evaluate` has them: it saw standardised columns, perhaps."""
    from ..data.transforms import Standardise

    if fit.no_density or not isinstance(data.transform, Standardise):
        return fit
    shift = float(data.transform.log_unit_jacobian(data.train[:]).mean())
    shifted = {"elbo": shift, "reconstruction": shift, "validation_elbo": shift, "loss": -shift}
    history = [{key: value + shifted.get(key, 0.0) for key, value in row.items()} for row in fit.history]
    return replace(fit, history=history, losses=[loss - shift for loss in fit.losses])


def add_score_task(
    progress: "Progress", name: str, points: int, num_samples: int | None, tolerance: float | None
) -> Callable[[float], None]:
    """Add a bar for the scoring of a pair. Returns the function that advances it by a number of points."""
    note = "to a tolerance" if tolerance is None else f"tolerance {tolerance:g}"
    if num_samples is not None and tolerance is None:
        note = f"{num_samples} samples a point"
    task = progress.add_task(f"score {name}", total=points, note=note)
    return lambda count: progress.advance(task, count)


def score_run(
    progress: "Progress",
    run: "Run",
    data: "Data",
    num_samples: int | None,
    seed: int,
    tolerance: float | None = None,
    partial_file: Path | None = None,
    max_draws: int = 20_000,
    max_seconds: float | None = None,
) -> "Evidence":
    """Evaluate a run on the held-out points, with a progress bar."""
    from ..evaluation.evaluating import evaluate

    evidence = evaluate(
        run.model,
        run.guide,
        data.test,
        num_samples,
        seed,
        tolerance=tolerance,
        max_draws=max_draws,
        max_seconds=max_seconds,
        transform=data.transform,
        on_progress=add_score_task(progress, run.name, len(data.test), num_samples, tolerance),
        partial_file=partial_file,
        structure=run.structure,
    )
    return with_few_values(evidence, data)


def with_few_values(evidence: "Evidence", data: "Data") -> "Evidence":
    """The columns that take few values, as the training points show them and by their names."""
    from ..data.columns import few_values_clause

    if not data.few_values:
        return evidence
    clause = few_values_clause(data.few_values, data.column_names)
    return replace(evidence, metadata={**evidence.metadata, "few_values": clause})


def open_scored(
    folder: Path,
    device: str,
    data: str | None = None,
    transform: str | None = None,
    root: Path | None = None,
    in_blocks: bool = False,
) -> tuple["Run", "Data"]:
    """A trained run and the data to score it on: its own, or `data`, made into x as the run's own were.

    With `in_blocks` a large file may be one that is never all in memory.
    """
    from ..data.streams import PointStream
    from ..runs.missing_values import check_missing_values
    from ..runs.run import load_run, read_data

    run = load_run(folder, device_of(device))
    config = run.config
    if transform not in (None, config.transform):
        raise InvalidInputError(
            f"{folder} was trained on x = {_transform_of(run)}, and log p(x) is of such x: leave --transform {transform} out, or "
            "train on it."
        )
    loaded = read_data(config, data, root)
    if loaded.dim != config.dim:
        raise InvalidInputError(
            f"{folder} was trained on points of {config.dim} numbers, and {loaded.name} has {loaded.dim}: evaluate it on data "
            "of its own size."
        )
    if isinstance(loaded.test, PointStream) and (not in_blocks or getattr(run.model, "no_density", "")):
        raise InvalidInputError(
            f"{loaded.name} is read block by block, which only the estimate of log p(x) by `pyrovae evaluate` takes: give a part of it."
        )
    if not isinstance(loaded.test, PointStream):
        check_missing_values(run.name, run.model, loaded)
    done, epochs = len(run.fit_result.losses), config.fit_arguments["epochs"]
    if done < epochs:
        tell(f"the training of {folder} was stopped after {done} of {epochs} epochs.")
    return run, loaded.to(device_of(device))


def _transform_of(run: "Run") -> str:
    from ..data.transforms import transform_from_state

    return str(transform_from_state(run.config.fitted_transform))


def draw_points(run: "Run", data: "Data", num: int, seed: int, mean: bool = False) -> "torch.Tensor":
    """Draw points from the model of a run, under a seed of their own."""
    from ..pair.sampling import sample
    from ..utils.random import fork_rng

    with fork_rng(data.test.device, seed):
        return sample(run.model, num, data.test, mean=mean).cpu()


def device_of(name: str) -> "torch.device":
    """Return the device that `--device` names."""
    import torch

    from ..utils.precision import check_device

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "mps":
        check_device(torch.device(name))
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise InvalidInputError(
            f"There is no device '{name}': give auto, cpu, cuda, or one of several GPUs, such as cuda:1."
        )
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidInputError(
            "CUDA was asked for and torch finds none: use --device cpu, or install a driver and a CUDA build of torch."
        )
    if device.index is not None:
        if are_several():
            raise InvalidInputError(f"torchrun gives each process a GPU of its own: leave --device {name} out.")
        if device.index >= (count := torch.cuda.device_count()):
            last = f"cuda:0 to cuda:{count - 1}" if count > 1 else "cuda:0"
            raise InvalidInputError(f"There is no {name} on this machine: give {last}.")
        torch.cuda.set_device(device)  # where torch puts what names no device
    return device


def data_source(data: str) -> str:
    """How a run's config names its data: a built-in's name, or the absolute path of a file."""
    from ..data.builtin import NAMES

    return data if data in NAMES else str(Path(data).resolve())


def load_given_data(context: typer.Context) -> "Data":
    """The data that the command line names, as its options say to read them."""
    from ..data.datasets import load_data

    given = context.params
    reading = {name: given[name] for name in ("root", "download", "label", "drop", "levels", "dtype")}
    return load_data(given["data"], given["transform"], seed=given["split_seed"], **reading)


def options_given(context: typer.Context, counts: Callable[[str], bool]) -> list[str]:
    """Of the options whose names count, those that stand on the command line, as they are written there."""
    return [
        "/".join([*parameter.opts, *parameter.secondary_opts])
        for parameter in context.command.params
        if counts(parameter.name or "")
        and getattr(context.get_parameter_source(parameter.name or ""), "name", "") == "COMMANDLINE"
    ]
