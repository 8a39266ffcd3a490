"""pyrovae compare: train each pair, score all on the same points, one table."""

import contextlib
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from ...data.datasets import Data, load_data
from ...errors import InvalidInputError, RunError
from ...evaluation.comparing import Comparison
from ...evaluation.result import Evidence
from ...loading.options import listed, with_settings
from ...loading.pairs import available, load
from ...loading.user_files import label
from ...plots import comparison as plots
from ...runs import run as runs
from ...runs.folder import new_folder
from ...tables.comparison import as_text, show
from ...utils.files import replacing
from ...utils.provenance import versions
from ..common import device_of, draw_points, score_run, source_of, train_with_progress
from ..errors import FAILURES, error_line
from ..options import (
    DataOption,
    DeviceOption,
    DownloadOption,
    EpochsOption,
    JsonOption,
    OverwriteOption,
    RootOption,
    SamplesOption,
    SeedOption,
    SplitSeedOption,
    TransformOption,
)
from ..output import check_writable, console, progress_bars, write_json, write_text

ALL = "all"
TRIO = "gmm,ppca,vae"
BINARY_TRIO = "bernoulli_mixture,bernoulli_pca,vae"  # who stands in where x has probabilities


def compare(
    data: DataOption = "digits",
    models: Annotated[
        str | None,
        typer.Option(
            help='Names and .py files, comma-separated, each with its settings, if any: "gmm,vae(guide=IAF)"; all: every pair that can '
            f"be scored on these data [default: {TRIO}; binary data: {BINARY_TRIO}]."
        ),
    ] = None,
    epochs: EpochsOption = None,
    num_samples: SamplesOption = 1000,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    out: Annotated[Path | None, typer.Option(help="New folder for the table, the runs, the figures.")] = None,
    json_file: JsonOption = None,
    transform: TransformOption = None,
    split_seed: SplitSeedOption = 0,
    root: RootOption = None,
    download: DownloadOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Train each pair, score all on the same held-out points, print one table. A pair that fails on the way leaves the others'
    rows as they are, and the exit code is 1."""
    loaded = load_data(data, transform, seed=split_seed, root=root, download=download).to(device_of(device))
    names = listed(models or (BINARY_TRIO if loaded.transform.discrete else TRIO))
    told: dict[str, Any] = {
        "source": source_of(data), "transform": transform, "root": None if root is None else str(root.resolve()),
        "seed": seed, "epochs": epochs,
    }  # fmt: skip
    excluded: dict[str, str] = {}
    prepared = []
    for name in names:
        prepared += _every(loaded, told, excluded) if name == ALL else [_one(name, loaded, told)]
    if not prepared:
        raise InvalidInputError(
            f"No pair can be scored on {loaded.name}: {'; '.join(dict.fromkeys(excluded.values()))}"
        )
    for run in prepared:
        if run.observed != prepared[0].observed:
            raise InvalidInputError(
                f"{prepared[0].name} scores {prepared[0].observed} numbers of each point and {run.name} {run.observed}: likelihoods of "
                "different things cannot be compared; let both observe all of x."
            )
    if len({_folder(run) for run in prepared}) < len(prepared):
        raise InvalidInputError(
            f"{models} names a model twice: give each once, or with other settings, files under names of their own."
        )
    shared = [name for name, count in Counter(name for run in prepared for name in run.store).items() if count > 1]
    if shared:
        raise InvalidInputError(
            f"Two of {models} name a pyro.param '{shared[0]}', so training one would move the other: give each its own name."
        )
    if json_file is None or out is None or out not in json_file.parents:
        check_writable(json_file)
    with contextlib.nullcontext() if out is None else new_folder(out, overwrite):
        if out is not None:
            settings = {
                "command": "compare",
                "models": [_folder(run) for run in prepared],
                "num_samples": num_samples,
                "seed": seed,
                "versions": versions(),
            }
            write_json(out / "config.json", settings)
        found: dict[str, Evidence] = {}
        failed: dict[str, str] = {}
        with progress_bars() as progress:
            for place, run in enumerate(prepared):
                try:
                    train_with_progress(progress, run, loaded, None if out is None else out / _folder(run))
                    found[run.name] = score_run(progress, run, loaded, num_samples, seed + place)  # as compare() does
                except FAILURES as error:
                    if len(prepared) == 1:
                        raise
                    failed[run.name] = error_line(error)
        if not found:
            raise RunError(f"Every pair failed, {'; '.join(f'{name}: {why}' for name, why in failed.items())}")
        scored = [run for run in prepared if run.name in found]
        comparison = Comparison(found, {run.name: run.fit_result for run in scored}, failed)
        metadata = {**loaded.metadata(), **next(iter(found.values())).metadata}
        content = {"metadata": metadata, **comparison.to_dict(), "excluded": excluded}
        below = [_told(excluded)] if excluded else []
        if out is not None:
            write_text(out / "table.txt", as_text(comparison, metadata, below))
            write_json(out / "comparison.json", content)
            _save_figures(out, comparison, scored, loaded, seed)
        if json_file is not None:
            write_json(json_file, content)
    show(comparison, metadata, console(), below)
    if out is not None:
        print(f"table, runs and figures: {out}")
    if failed:
        raise RunError(
            f"{len(failed)} of {len(prepared)} pairs failed, {', '.join(failed)}: the lines below the table say why."
        )


def _one(text: str, data: Data, told: dict[str, Any]) -> runs.Run:
    """A pair, called by its name and what it is set to."""
    name, settings = with_settings(text)
    if name == ALL:
        raise InvalidInputError(f"{ALL} takes no settings: name the pairs that are to have {', '.join(settings)}.")
    run = runs.prepare_run(load(name), data, options=settings, **told)
    run.name += f"({', '.join(map(label, settings))})" if settings else ""
    return run


def _folder(run: runs.Run) -> str:
    """Its name in the comparison's folder, which shells take as it is."""
    return re.sub(r"[^\w.=+-]+", "-", run.name).strip("-")


def _every(data: Data, told: dict[str, Any], excluded: dict[str, str]) -> list[runs.Run]:
    """Every built-in pair that gives all of x a density, or all of it a probability, as the data ask; and of the others, why not."""
    prepared = []
    for name in available():
        try:
            run = _one(name, data, told)
        except InvalidInputError as refusal:
            excluded[name] = str(refusal)
            continue
        if run.observed < data.dim:
            excluded[name] = f"It scores {run.observed} of the {data.dim} numbers of each point, given the rest."
        else:
            prepared.append(run)
    return prepared


def _told(excluded: dict[str, str]) -> Text:
    """A line for each reason, and whom it keeps out."""
    names: dict[str, list[str]] = {}
    for name, why in excluded.items():
        names.setdefault(why, []).append(name)
    return Text("\n".join(f"left out, {', '.join(those)}: {why}" for why, those in names.items()) + "\n")


def _save_figures(out: Path, comparison: Comparison, prepared: list[runs.Run], data: Data, seed: int) -> None:
    figures = {
        "learning_curves.png": plots.learning_curves({run.name: run.fit_result for run in prepared}),
        "evidence.png": plots.evidence_plot(comparison),
    }
    if data.shape is not None:
        draws = {run.name: data.transform.grey(draw_points(run, data, 24, seed)) for run in prepared}
        shown = data.transform.grey(data.test[:24].cpu())
        figures["samples.png"] = plots.samples_beside_data(shown, draws, data.shape)
    for name, figure in figures.items():
        with replacing(out / name) as file:
            figure.savefig(file, dpi=150)
