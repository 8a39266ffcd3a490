"""pyrovae distil: train a run's guide on draws of the posterior."""

from pathlib import Path
from typing import Annotated

import typer

from ..common import open_scored
from ..options import DeviceOption, JsonOption, NetcdfOption, OverwriteOption, RootOption, RunArgument, SeedOption
from ..output import check_writable, console, output_folder, progress_bars, write_json, write_netcdf


def distil_command(
    run: RunArgument,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training data.")] = 100,
    batch_size: Annotated[int, typer.Option(min=1, help="Points for each training step.")] = 128,
    lr: Annotated[float, typer.Option(help="Learning rate of Adam at the start.")] = 1e-3,
    num_draws: Annotated[int, typer.Option(min=8, help="Draws of the posterior of each training point.")] = 64,
    num_samples: Annotated[int, typer.Option(min=2, help="Draws of the guide for the K-sample bound.")] = 500,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    root: RootOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the run with its new guide.")] = None,
    overwrite: OverwriteOption = False,
    json_file: JsonOption = None,
    netcdf: NetcdfOption = None,
) -> None:
    """Train the guide of a run on draws of the posterior.

    The model stays as it is. The result says what the guide loses before and after.
    """
    from ...evaluation.distilling import distil
    from ...runs.run import save_as
    from ...tables.distillation import show

    check_writable(json_file, netcdf)
    restored, loaded = open_scored(run, device, root=root)
    with output_folder(out, overwrite):
        with progress_bars() as progress:
            task = progress.add_task(f"distil {restored.name}", total=1.0, note=f"{len(loaded.train)} points")
            result = distil(
                restored.model,
                restored.guide,
                loaded.train[:],  # of data whose noise is drawn anew, one draw
                loaded.test,
                epochs=epochs,
                batch_size=batch_size,
                lr=lr,
                num_draws=num_draws,
                num_samples=num_samples,
                seed=seed,
                on_progress=lambda share: progress.advance(task, share),
            )
        if out is not None:
            save_as(restored, run, out)
    metadata = {**loaded.metadata(), **result.metadata}
    if json_file is not None:
        write_json(json_file, {**result.to_dict(), "name": restored.name, "metadata": metadata})
    if netcdf is not None:
        write_netcdf(netcdf, result.to_arviz())
    show(restored.name, result, console())
    if out is not None:
        print(f"run: {out}")
