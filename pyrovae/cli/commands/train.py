"""pyrovae train: one pair, kept in a folder; or a run that was stopped, taken up again."""

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InvalidInputError
from ...utils.files import is_first_process
from ..common import data_source, device_of, in_units_of, load_given_data, options_given, train_with_progress
from ..loggers import check_loggers, make_loggers
from ..options import (
    BatchOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    DropOption,
    DtypeOption,
    EpochsOption,
    LabelOption,
    LevelsOption,
    OverwriteOption,
    RateOption,
    RootOption,
    SeedOption,
    SetOption,
    SplitSeedOption,
    TransformOption,
)
from ..output import output_folder, progress_bars, save_figure
from ..reconstructions import per_what

if TYPE_CHECKING:
    from ...data.datasets import Data
    from ...runs.run import Run
    from ...training.result import FitResult


def train_command(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(help="A name (`pyrovae models` lists them), or a .py file that defines pair(dim, **options)."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New folder for the run [default: runs/MODEL].")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Resume the run in this folder from its last checkpoint. No other options are allowed."),
    ] = None,
    data: DataOption = "digits",
    settings: SetOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    lr: RateOption = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="What training maximises: IWAE(50), DReG(50), Beta(4), FreeBits(0.1), … [default: the ELBO]."
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="Schedule of the learning rate: cosine, iwae_schedule, with_warmup or constant [default: cosine]."
        ),
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="em: start training from the result of expectation maximisation.")
    ] = None,
    max_grad_norm: Annotated[
        float | None, typer.Option(help="Clip the gradient to this norm, in nats per point.")
    ] = None,
    kl_warmup_fraction: Annotated[
        float | None, typer.Option(help="Fraction of the steps in which the weight of the KL rises from 0 to 1.")
    ] = None,
    ema_decay: Annotated[
        float | None, typer.Option(help="Decay of a moving average of the parameters, such as 0.999.")
    ] = None,
    validation_fraction: Annotated[
        float | None,
        typer.Option(help="Fraction of the training points to hold out, to stop early and keep the best epoch."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs without a better held-out ELBO before training stops [default: 10]."),
    ] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, tf32 or bf16 [default: fp32].")] = None,
    compile: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile", help="Compile the training step, or run the pair itself [default: by length]."
        ),
    ] = None,
    retry_lr_factor: Annotated[
        float | None, typer.Option(help="If training diverges, go back once, with the learning rate times this.")
    ] = None,
    log_to: Annotated[
        list[str] | None,
        typer.Option(help="Also write metrics for tensorboard, wandb (offline) or mlflow; may be repeated."),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    transform: TransformOption = None,
    label: LabelOption = None,
    drop: DropOption = None,
    levels: LevelsOption = None,
    dtype: DtypeOption = None,
    split_seed: SplitSeedOption = 0,
    root: RootOption = None,
    download: DownloadOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Train one model and keep it in a folder.

    Under torchrun the processes share each batch.
    """
    from ...loading.options import with_settings
    from ...loading.pairs import load
    from ...runs import run as runs
    from ...utils.distributed import ProcessGroup

    if log_to:
        check_loggers(log_to)
    where = device_of(device)
    if resume is not None:
        _check_resume_alone(context)
        run, loaded = runs.resume_run(resume, where)
        epochs_done = runs.epochs_completed(resume, run.config)
        if epochs_done:
            print(f"{run.name}: finished after {epochs_done} epochs, nothing is left to resume; {_longer(resume)}.")
        _train(run, loaded, resume, log_to or [], resume=True)
        return
    if model is None:
        raise InvalidInputError("Name a model (`pyrovae models` lists them), or --resume RUN.")
    name, in_brackets = with_settings(model)
    if in_brackets:
        words = " ".join(f"--set {setting}" for setting in in_brackets)
        raise InvalidInputError(f"`train` takes no settings in brackets: write pyrovae train {name} {words}.")
    loaded = load_given_data(context).to(where)
    fit_arguments: dict[str, Any] = {
        "epochs": epochs, "batch_size": batch_size, "lr": lr, "objective": objective, "schedule": schedule,
        "init": init, "max_grad_norm": max_grad_norm, "kl_warmup_fraction": kl_warmup_fraction,
        "ema_decay": ema_decay, "validation_fraction": validation_fraction, "patience": patience,
        "precision": precision, "compile": compile, "retry_lr_factor": retry_lr_factor,
    }  # fmt: skip
    pair = load(model)
    run = runs.prepare_run(
        pair,
        loaded,
        source=data_source(data),
        transform=transform,
        root=None if root is None else str(root.resolve()),
        options=settings or [],
        seed=seed,
        scored=False,
        **fit_arguments,
    )
    (folder, *_) = ProcessGroup().collect(lambda: _default_folder(pair.name) if out is None else out)
    with output_folder(folder, overwrite):
        _train(run, loaded, folder, log_to or [])


def _train(run: "Run", data: "Data", folder: Path, log_to: list[str], *, resume: bool = False) -> None:
    from ...utils.distributed import alone

    loggers = make_loggers(log_to, run, folder) if log_to and is_first_process() else []
    with progress_bars() as progress:
        train_with_progress(progress, run, data, folder, loggers, resume=resume)
    if is_first_process():
        with alone():
            _tell_result(run, data, folder)


def _tell_result(run: "Run", data: "Data", folder: Path) -> None:
    """The learning curve as a figure, and what there is to say of the training."""
    from ...plots import note, training

    result = in_units_of(data, run.fit_result)
    if result.history:  # a pair in closed form has no epochs, and a figure of it no curve
        save_figure(
            folder / "learning_curve.png", note(training(result), (data.name, run.name, f"seed {run.config.seed}"))
        )
    if result.no_density:
        from ...exploration import reconstruct
        from ...tables.reconstruction import reconstruction_sentence

        reconstruction = reconstruct(run.model, run.guide, data.test, run.config.seed)
        print(f"{run.name}: {result.no_density}")
        print(f"{run.name}: {reconstruction_sentence(reconstruction, per_what(data))}")
    print(
        f"{run.name}: {_last(result)}{result.objective}, {result.steps} steps, {result.seconds:.1f} s; kept in {folder}"
    )
    options = ", ".join(f"{name}={value}" for name, value in run.config.resolved_options.items())
    for remark in (
        options and f"options {options}",
        result.execution,
        result.stop_reason and f"stopped early: {result.stop_reason}",
        result.floor_message,
    ):
        if remark:
            print(f"{run.name}: {remark}")


def _default_folder(name: str) -> Path:
    """Return the first of runs/NAME, runs/NAME-2, … that does not exist."""
    folders = (Path("runs") / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
    return next(folder for folder in folders if not folder.exists())


def _longer(folder: Path) -> str:
    """A course cannot be made longer: its learning rate was made for its length, and has fallen to 0 at the end."""
    return (
        "a new course from where it stands is, in Python, "
        f"run = pyrovae.load_run('{folder}'); pyrovae.fit(run.model, run.guide, x, epochs=…)"
    )


def _last(fit: "FitResult") -> str:
    """Where training ended: the ELBO, and the loss where that is another number."""
    if not fit.history:
        return ""
    elbo, loss = fit.history[-1]["elbo"], fit.losses[-1]
    if fit.no_density:
        return f"training loss {loss:.4g} per point, "
    parts = [] if math.isnan(elbo) else [f"training ELBO {elbo:.3f}"]
    if math.isnan(elbo) or abs(elbo + loss) > 1e-9 * abs(loss):
        parts.append(f"training loss {loss:.3f}")
    return f"{', '.join(parts)} nats per point, "


def _check_resume_alone(context: typer.Context) -> None:
    """Whatever else was said, and would not be heard."""
    given = options_given(context, lambda name: name not in ("resume", "device", "log_to", "quiet", "verbose"))
    if given:
        longer = f"; {_longer(context.params['resume'])}" if "--epochs" in given else ""
        raise InvalidInputError(
            f"--resume RUN goes on with a run as it was begun: leave out {', '.join(given)}{longer}."
        )
