"""pyrovae report: one page that shows what some runs are worth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import InvalidInputError, RunError
from ..common import device_of
from ..compared_pairs import inspect_run, load_runs, score_runs
from ..options import BoundSamplesOption, DeviceOption, RootOption, SeedOption, ToleranceOption
from ..output import check_writable, progress_bars, write_text
from ..reconstructions import Reconstructions, without_density

if TYPE_CHECKING:
    from ...data.datasets import Data
    from ...runs.run import Run


def report_command(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders that `pyrovae train --out` wrote.")],
    out: Annotated[Path, typer.Option(help="The page, an .html file.")] = Path("report.html"),
    num_samples: BoundSamplesOption = None,
    tolerance: ToleranceOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    root: RootOption = None,
) -> None:
    """Write one HTML page about trained runs.

    The runs are scored on their held-out points first. The page has the table, the figures and the settings. It opens
    without a network.
    """
    from ...evaluation.comparing import check_separate_parameters
    from ...evaluation.comparison import check_same_dim
    from ...report import render
    from ..report_contents import gather_contents

    if out.suffix not in (".html", ".htm"):
        raise InvalidInputError(f"{out} is no page's file: give one that ends in .html.")
    check_writable(out)
    runs, data = _open(folders, device, root)
    unscored = without_density(runs.values())
    pairs = {name: (run.model, run.guide) for name, run in runs.items() if name not in unscored}
    if not pairs:
        raise InvalidInputError(f"There is nothing to score: {'; '.join(dict.fromkeys(unscored.values()))}")
    check_same_dim({name: run.observed for name, run in runs.items()})
    check_separate_parameters(pairs, data.test[:256])
    with progress_bars() as progress:
        scored = {name: run for name, run in runs.items() if name not in unscored}
        comparison = score_runs(progress, scored, data, num_samples, seed, tolerance)
    metadata = {**data.metadata(), **next(iter(comparison.evidence.values())).metadata, "seed": seed}
    reconstructions = Reconstructions(runs.values(), data, seed)
    write_text(out, render(gather_contents(comparison, metadata, runs, data, reconstructions, seed)))
    print(f"page: {out}")
    if failed := comparison.failed:
        raise RunError(
            f"{len(failed)} of {len(runs)} runs could not be scored, {', '.join(failed)}: the page says why."
        )


def _open(folders: list[Path], device: str, root: Path | None) -> tuple[dict[str, "Run"], "Data"]:
    """The runs, by the names of their models where these differ, and the data that all were trained on."""
    from ...runs.run import data_of

    opened = load_runs([str(folder) for folder in folders], device_of(device))
    data = data_of(next(iter(opened.values())), root).to(device_of(device))
    models = [run.config.model for run in opened.values()]
    for run in opened.values():
        inspect_run(run, data)
        run.name = run.config.model if models.count(run.config.model) == 1 else run.name
    return {run.name: run for run in opened.values()}, data
