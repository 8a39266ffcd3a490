"""pyrovae compare: train each pair, score all on the same points, one table."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InvalidInputError, RunError
from ..common import add_score_task, data_source, device_of, draw_points, train_with_progress
from ..options import (
    BoundSamplesOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    DropOption,
    DtypeOption,
    EpochsOption,
    JsonOption,
    LabelOption,
    LevelsOption,
    OverwriteOption,
    RootOption,
    SeedOption,
    SplitSeedOption,
    ToleranceOption,
    TransformOption,
)
from ..output import check_writable, console, output_folder, progress_bars, save_figure, write_json, write_text

if TYPE_CHECKING:
    from rich.text import Text

    from ...data.datasets import Data
    from ...evaluation.comparing import Comparison
    from ...runs.run import Run
    from ...training.result import FitResult

ALL = "all"
TRIO = "gmm,ppca,vae"
BINARY_TRIO = "bernoulli_mixture,bernoulli_pca,vae"  # who stands in where x has probabilities


def compare_command(
    data: DataOption = "digits",
    models: Annotated[
        str | None,
        typer.Option(
            help='Names and .py files, comma-separated, each with its settings, if any: "gmm,vae(guide=IAF)"; all: every pair that can '
            f"be scored on these data [default: {TRIO}; binary data: {BINARY_TRIO}]."
        ),
    ] = None,
    epochs: EpochsOption = None,
    num_samples: BoundSamplesOption = None,
    tolerance: ToleranceOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    out: Annotated[Path | None, typer.Option(help="New folder for the table, the runs, the figures.")] = None,
    json_file: JsonOption = None,
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
    """Train each pair, score all on the same held-out points, print one table. A pair that fails on the way leaves the others'
    rows as they are, and the exit code is 1."""
    from ...data.datasets import load_data
    from ...evaluation.comparing import check_same_dim, check_separate_parameters, score_pairs
    from ...loading.options import listed
    from ...tables.comparison import as_text, show
    from ...utils.provenance import versions

    loaded = load_data(
        data,
        transform,
        seed=split_seed,
        root=root,
        download=download,
        label=label,
        drop=drop,
        levels=levels,
        dtype=dtype,
    ).to(device_of(device))
    names = listed(models or (BINARY_TRIO if loaded.transform.discrete else TRIO))
    settings: dict[str, Any] = {
        "source": data_source(data), "transform": transform, "root": None if root is None else str(root.resolve()),
        "seed": seed, "epochs": epochs,
    }  # fmt: skip
    excluded: dict[str, str] = {}
    prepared = []
    for name in names:
        prepared += _every(loaded, settings, excluded) if name == ALL else [_one(name, loaded, settings)]
    if not prepared:
        raise InvalidInputError(
            f"No pair can be scored on {loaded.name}: {'; '.join(dict.fromkeys(excluded.values()))}"
        )
    if len({_folder(run) for run in prepared}) < len(prepared):
        raise InvalidInputError(
            f"{models} names a model twice: give each once, or with other settings, files under names of their own."
        )
    runs = {run.name: run for run in prepared}
    pairs = {name: (run.model, run.guide) for name, run in runs.items()}
    check_same_dim({name: run.observed for name, run in runs.items()})
    check_separate_parameters(pairs, loaded.train[:256])
    if json_file is None or out is None or out not in json_file.parents:
        check_writable(json_file)
    with output_folder(out, overwrite):
        if out is not None:
            config = {
                "command": "compare",
                "models": [_folder(run) for run in prepared],
                "num_samples": num_samples,
                "tolerance": tolerance,
                "seed": seed,
                "versions": versions(),
            }
            write_json(out / "config.json", config)
        with progress_bars() as progress:
            bars: list[Any] = []

            def train(name: str) -> "FitResult":
                run = runs[name]
                train_with_progress(progress, run, loaded, None if out is None else out / _folder(run))
                bars.append(add_score_task(progress, name, len(loaded.test), num_samples, tolerance))
                return run.fit_result

            comparison = score_pairs(
                pairs,
                loaded.test,
                num_samples,
                seed,
                tolerance=tolerance,
                transform=loaded.transform,
                on_progress=lambda count: bars[-1](count),
                train=train,
                keep_failures=True,
            )
        metadata = {**loaded.metadata(), **next(iter(comparison.evidence.values())).metadata, "seed": seed}
        content = {"metadata": metadata, **comparison.to_dict(), "excluded": excluded}
        below = [_exclusions(excluded)] if excluded else []
        if out is not None:
            write_text(out / "table.txt", as_text(comparison, metadata, below))
            write_json(out / "comparison.json", content)
            _save_figures(out, comparison, [runs[name] for name in comparison.evidence], loaded, seed)
        if json_file is not None:
            write_json(json_file, content)
    show(comparison, metadata, console(), below)
    if out is not None:
        print(f"table, runs and figures: {out}")
    if failed := comparison.failed:
        raise RunError(
            f"{len(failed)} of {len(prepared)} pairs failed, {', '.join(failed)}: the lines below the table say why."
        )


def _one(text: str, data: "Data", settings: dict[str, Any]) -> "Run":
    """A pair, called by its name and its options."""
    from ...loading.options import with_settings
    from ...loading.pairs import load
    from ...loading.user_files import label
    from ...runs.run import prepare_run

    name, options = with_settings(text)
    if name == ALL:
        raise InvalidInputError(f"{ALL} takes no settings: name the pairs that are to have {', '.join(options)}.")
    run = prepare_run(load(name), data, options=options, **settings)
    run.name += f"({', '.join(map(label, options))})" if options else ""
    return run


def _folder(run: "Run") -> str:
    """Its name in the comparison's folder, which shells take as it is."""
    return re.sub(r"[^\w.=+-]+", "-", run.name).strip("-")


def _every(data: "Data", settings: dict[str, Any], excluded: dict[str, str]) -> list["Run"]:
    """Every built-in pair that gives all of x a density, or all of it a probability, as the data ask; and of the others, why not."""
    from ...loading.pairs import available

    prepared = []
    for name in available():
        try:
            run = _one(name, data, settings)
        except InvalidInputError as refusal:
            excluded[name] = str(refusal)
            continue
        if run.observed < data.dim:
            excluded[name] = f"It scores {run.observed} of the {data.dim} numbers of each point, given the rest."
        else:
            prepared.append(run)
    return prepared


def _exclusions(excluded: dict[str, str]) -> "Text":
    """A line for each reason, and whom it keeps out."""
    from rich.text import Text

    names: dict[str, list[str]] = {}
    for name, why in excluded.items():
        names.setdefault(why, []).append(name)
    return Text("\n".join(f"left out, {', '.join(those)}: {why}" for why, those in names.items()) + "\n")


def _save_figures(out: Path, comparison: "Comparison", runs: list["Run"], data: "Data", seed: int) -> None:
    from ...plots import comparison as plots
    from ...plots import note

    figures = {
        "learning_curves.png": plots.learning_curves({run.name: run.fit_result for run in runs}, comparison.evidence),
        "evidence.png": plots.evidence_plot(comparison),
    }
    if data.shape is not None:
        draws = {run.name: data.transform.grey(draw_points(run, data, 24, seed)) for run in runs}
        shown = data.transform.grey(data.test[:24].cpu())
        figures["samples.png"] = plots.samples_beside_data(shown, draws, data.shape)
    for name, figure in figures.items():
        save_figure(out / name, note(figure, (data.name, f"seed {seed}")))
