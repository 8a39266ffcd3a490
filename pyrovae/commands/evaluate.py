"""pyrovae evaluate: log p(x) of the held-out points."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .. import runs
from ..comparison import Comparison
from ..report import show
from .ais import (
    AisOption,
    AisPointsOption,
    BdmcOption,
    ChainsOption,
    StartOption,
    StepsOption,
    annealed_section,
    refuse_annealing,
)
from .common import console, open_scored, progress_bars, refuse_unwritable, score_run, write_json
from .options import DeviceOption, JsonOption, RootOption, SamplesOption, SeedOption, TransformOption


def evaluate(
    run: Annotated[Path, typer.Argument(help="A folder that `pyrovae train --out` wrote.")],
    samples: SamplesOption = 5000,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    data: Annotated[
        str | None, typer.Option(help="Other data than the run's held-out points: all points of a file, or its 'test'.")
    ] = None,
    transform: TransformOption = None,
    root: RootOption = None,
    json_file: JsonOption = None,
    netcdf: Annotated[
        Path | None, typer.Option(help="Write the per-point values there, as ArviZ's InferenceData.")
    ] = None,
    ais: AisOption = False,
    chains: ChainsOption = 16,
    steps: StepsOption = 1000,
    start: StartOption = "prior",
    ais_points: AisPointsOption = 100,
    bdmc: BdmcOption = False,
) -> None:
    """Estimate log p(x) of the held-out points, with errors."""
    restored, loaded = open_scored(run, device, data, transform, root)
    if ais:
        refuse_annealing(restored, loaded, start)
    refuse_unwritable(json_file)
    refuse_unwritable(netcdf)
    with progress_bars() as progress:
        evidence = score_run(progress, restored, loaded, samples, seed)
    annealed = None
    if ais:
        annealed = annealed_section(
            restored,
            loaded,
            evidence,
            chains=chains,
            steps=steps,
            start=start,
            points=ais_points,
            bracket=bdmc,
            seed=seed,
        )
    comparison = Comparison({restored.name: evidence}, {restored.name: restored.fit})
    card = {**loaded.card(), **evidence.card}
    if json_file is not None:
        section = {"annealing": annealed.to_dict()} if annealed else {}
        write_json(json_file, {"card": card, **comparison.to_dict(), **section})
    if netcdf is not None:
        with runs.replacing(netcdf) as file:
            replace(evidence, card=card).to_arviz().to_netcdf(str(file))
    show(comparison, card, console())
    if annealed:
        annealed.show(console())
