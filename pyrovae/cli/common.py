"""What the commands share: one sentence for what goes wrong, devices, progress, files."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import typer
from rich.progress import Progress

from ..data.datasets import Data, load_data
from ..errors import InvalidInputError
from ..evaluation.evaluating import evaluate
from ..evaluation.result import Evidence
from ..pair.sampling import sample as draw
from ..runs import run as runs
from ..training import FitResult
from ..utils.random import fork_rng
from .errors import warnings_on_stderr


def train_with_progress(
    progress: Progress, run: runs.Run, data: Data, folder: Path | None, watch: Any = None, *, resume: bool = False
) -> None:
    """Train under a bar; `watch` is a TensorBoard writer."""
    epochs = run.config.fit_arguments["epochs"]
    task = progress.add_task(f"train {run.name}", total=epochs, note="")

    def on_epoch(fit: FitResult) -> None:
        row = fit.history[-1]
        parts = "" if math.isnan(row["kl"]) else f" = {row['reconstruction']:.2f} − KL {row['kl']:.2f}"
        rate = fit.steps / fit.seconds if fit.seconds else 0.0
        told = not (fit.no_density or math.isnan(row["elbo"]))
        score = f"ELBO {row['elbo']:.2f}{parts} nats/point" if told else f"loss {fit.losses[-1]:.4g} a point"
        note = f"{score}, {rate:.0f} steps/s"
        progress.update(task, completed=len(fit.losses), note=note)
        if watch is not None:
            for name, value in row.items():
                if name not in ("epoch", "steps") and not math.isnan(value):
                    watch.add_scalar(name, value, int(row["steps"]))

    with warnings_on_stderr(run.name):
        runs.train_run(run, data, folder, on_epoch, resume=resume)
    if watch is not None:
        watch.close()


def score_run(
    progress: Progress, run: runs.Run, data: Data, num_samples: int, seed: int, partial_file: Path | None = None
) -> Evidence:
    task = progress.add_task(f"score {run.name}", total=len(data.test), note=f"{num_samples} samples a point")
    return evaluate(
        run.model,
        run.guide,
        data.test,
        num_samples,
        seed,
        transform=data.transform,
        on_progress=lambda points: progress.advance(task, points),
        partial_file=partial_file,
        structure=run.structure,
    )


def open_scored(
    folder: Path, device: str, data: str | None, transform: str | None, root: Path | None
) -> tuple[runs.Run, Data]:
    run = runs.load_run(folder, device_of(device))
    config = run.config
    loaded = load_data(
        data or config.data,
        transform if data or transform else config.transform,
        seed=config.split_seed,
        root=root or config.root,
        split=data is None,
    )
    if loaded.dim != config.dim:
        raise InvalidInputError(
            f"{folder} was trained on points of {config.dim} numbers, and {loaded.name} has {loaded.dim}: evaluate it on data "
            "of its own size."
        )
    done, asked = len(run.fit_result.losses), config.fit_arguments["epochs"]
    if done < asked:
        print(f"pyrovae: the training of {folder} was stopped after {done} of {asked} epochs.", file=sys.stderr)
    return run, loaded.to(device_of(device))


def rows_at_random(x: torch.Tensor, points: int, seed: int) -> torch.Tensor:
    """Which rows a command takes that looks at `points` of x, or at all if there are no more: in their order."""
    with fork_rng(x.device, seed):
        return torch.randperm(len(x))[:points].sort().values


def draw_points(run: runs.Run, data: Data, num: int, seed: int, mean: bool = False) -> torch.Tensor:
    with fork_rng(data.test.device, seed):
        return draw(run.model, num, data.test, mean=mean).cpu()


def device_of(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise InvalidInputError(f"There is no device '{name}': give auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise InvalidInputError(
            "CUDA was asked for and torch finds none: use --device cpu, or install a driver and a CUDA build of torch."
        )
    return torch.device(name)


def source_of(data: str) -> str:
    return data if data in ("digits", "mnist") else str(Path(data).resolve())


def options_given(context: typer.Context, counts: Callable[[str], bool]) -> list[str]:
    """Of the options whose names count, those that stand on the command line, as they are written there."""
    return [
        "/".join([*parameter.opts, *parameter.secondary_opts])
        for parameter in context.command.params
        if counts(parameter.name or "")
        and getattr(context.get_parameter_source(parameter.name or ""), "name", "") == "COMMANDLINE"
    ]
