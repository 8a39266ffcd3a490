"""What the commands share: one sentence for what goes wrong, devices, progress, files."""

import contextlib
import functools
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..data.datasets import Data, load_data
from ..errors import Diverged, Refusal
from ..evaluation.evaluating import evaluate
from ..evaluation.result import Evidence
from ..pair.execution import fork_rng, in_one_line
from ..pair.execution import sample as draw
from ..runs import run as runs
from ..tables.comparison import WIDTH
from ..training import Fit

FAILURES = (Refusal, Diverged, torch.OutOfMemoryError)  # of one pair: another may do well


def sentence_of(error: Exception) -> str:
    """What a failure says, in one line."""
    if isinstance(error, torch.OutOfMemoryError):
        return "The device is out of memory: use --device cpu, or a smaller model."
    return in_one_line(error)


def sentences(command: Callable[..., None]) -> Callable[..., None]:
    """What goes wrong is said in one sentence: exit code 2 for what was asked, 1 for what happened, 130 for Ctrl-C."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        notes: BaseException
        try:
            command(*args, **kwargs)
            return
        except FAILURES as error:
            code, message, notes = 2 if isinstance(error, Refusal) else 1, sentence_of(error), error
        except OSError as error:
            file = f": {error.filename}" if error.filename else ""
            code, message, notes = 1, f"{error.strerror or error}{file}.", error
        except KeyboardInterrupt as error:
            code, message, notes = (
                130,
                "stopped; `pyrovae train --resume RUN` goes on, `pyrovae evaluate RUN` reads the last checkpoint.",
                error,
            )
        said = " ".join([message, *getattr(notes, "__notes__", [])])
        print(f"pyrovae: {' '.join(said.split())}", file=sys.stderr)
        raise typer.Exit(code)

    return run


@contextlib.contextmanager
def warnings_said(name: str) -> Iterator[None]:
    """What is logged as a warning inside is said on standard error, in one line, with whom it is about."""

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print(f"pyrovae: {name}: {' '.join(record.getMessage().split())}", file=sys.stderr)  # as it is at that time

    handler, log = Said(logging.WARNING), logging.getLogger("pyrovae")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def train_run(
    progress: Progress, run: runs.Run, data: Data, folder: Path | None, watch: Any = None, *, resume: bool = False
) -> None:
    """Train under a bar; `watch` is a TensorBoard writer."""
    epochs = run.config.fit["epochs"]
    task = progress.add_task(f"train {run.name}", total=epochs, note="")

    def on_epoch(fit: Fit) -> None:
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

    with warnings_said(run.name):
        runs.train(run, data, folder, on_epoch, resume=resume)
    if watch is not None:
        watch.close()


def score_run(
    progress: Progress, run: runs.Run, data: Data, samples: int, seed: int, resume: Path | None = None
) -> Evidence:
    task = progress.add_task(f"score {run.name}", total=len(data.test), note=f"{samples} samples a point")
    return evaluate(
        run.model,
        run.guide,
        data.test,
        samples,
        seed,
        transform=data.transform,
        progress=lambda points: progress.advance(task, points),
        resume=resume,
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
        whole=data is not None,
    )
    if loaded.dim != config.dim:
        raise Refusal(
            f"{folder} was trained on points of {config.dim} numbers, and {loaded.name} has {loaded.dim}: evaluate it on data "
            "of its own size."
        )
    done, asked = len(run.fit.losses), config.fit["epochs"]
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
        raise Refusal(f"There is no device '{name}': give auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise Refusal(
            "CUDA was asked for and torch finds none: use --device cpu, or install a driver and a CUDA build of torch."
        )
    return torch.device(name)


def source_of(data: str) -> str:
    return data if data in ("digits", "mnist") else str(Path(data).resolve())


def refuse_unwritable(path: Path | None) -> None:
    """Better before an hour of work than after it."""
    if path is None:
        return
    folder = path.resolve().parent
    if not folder.is_dir():
        raise Refusal(f"The folder of {path} does not exist: make it first.")
    if path.is_dir():
        raise Refusal(f"{path} is a folder: name a file.")
    if not os.access(folder, os.W_OK):
        raise Refusal(f"Nothing can be written to {folder}: choose another folder.")


def write_text(path: Path, text: str) -> None:
    with runs.replacing(path) as file:
        file.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def options_said(context: typer.Context, counts: Callable[[str], bool]) -> list[str]:
    """Of the options whose names count, those that stand on the command line, as they are written there."""
    return [
        "/".join([*parameter.opts, *parameter.secondary_opts])
        for parameter in context.command.params
        if counts(parameter.name or "")
        and getattr(context.get_parameter_source(parameter.name or ""), "name", "") == "COMMANDLINE"
    ]


def console() -> Console:
    found = Console()
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(width=WIDTH)


@contextlib.contextmanager
def progress_bars(show: bool = True) -> Iterator[Progress]:
    """Bars on standard error, and only where someone can watch them."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (show and console.is_terminal)) as progress:
        yield progress
