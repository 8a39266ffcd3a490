"""pyrovae train: one pair, kept in a folder."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import plots, runs
from ..datasets import load_data
from ..loading import load
from .common import device_of, progress_bars, source_of, train_run
from .options import (
    BatchOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    EpochsOption,
    OverwriteOption,
    RateOption,
    RootOption,
    SeedOption,
    SetOption,
    SplitSeedOption,
    TransformOption,
)


def train(
    model: Annotated[
        str, typer.Argument(help="A name (`pyrovae models`), or a .py file that defines pair(dim, **options).")
    ],
    out: Annotated[Path, typer.Option(help="New folder for the run.")],
    data: DataOption = "digits",
    settings: SetOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    lr: RateOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    transform: TransformOption = None,
    split_seed: SplitSeedOption = 0,
    root: RootOption = None,
    download: DownloadOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Train one pair and keep it in a folder."""
    pair = load(model)
    loaded = load_data(data, transform, seed=split_seed, root=root, download=download).to(device_of(device))
    run = runs.prepare(
        pair,
        loaded,
        source=source_of(data),
        transform=transform,
        root=None if root is None else str(root.resolve()),
        options=settings or [],
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
    )
    with runs.new_folder(out, overwrite):
        with progress_bars() as progress:
            train_run(progress, run, loaded, out)
        with runs.replacing(out / "learning_curve.png") as file:
            plots.learning_curves({run.name: run.fit}).savefig(file, dpi=150)
    if run.fit.losses and run.fit.losses[-1] > run.fit.losses[0]:
        print(f"pyrovae: {run.name} ended its training below where it began: lower --lr.", file=sys.stderr)
    last = f"training ELBO {-run.fit.losses[-1]:.3f} nats per point, " if run.fit.losses else ""
    print(f"{run.name}: {last}{run.fit.objective}, {run.fit.steps} steps, {run.fit.seconds:.1f} s; kept in {out}")
