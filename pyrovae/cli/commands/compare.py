"""pyrovae compare: train each pair, score all on the same points, one table."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InvalidInputError, RunError
from ..common import (
    data_source,
    device_of,
    draw_points,
    in_units_of,
    load_given_data,
    options_given,
    train_with_progress,
)
from ..compared_pairs import (
    ALL,
    exclusions,
    inspect_run,
    is_run,
    listed_pairs,
    load_runs,
    prepare_all,
    prepare_named,
    repeat_training,
    score_runs,
)
from ..decisions import check_decision_options, decide_with_progress
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
    MaxDrawsOption,
    MaxSecondsOption,
    OverwriteOption,
    RootOption,
    SeedOption,
    SplitSeedOption,
    ToleranceOption,
    TransformOption,
)
from ..output import check_writable, console, output_folder, progress_bars, save_figure, write_json, write_text
from ..reconstructions import Reconstructions, train_without_density, without_density
from ..shared_trainings import share_trainings

if TYPE_CHECKING:
    from ...data.datasets import Data
    from ...evaluation.comparison import Comparison
    from ...runs.run import Run

OF_DATA = ("data", "transform", "split_seed", "label", "drop", "levels", "dtype")
TRIO = "gmm,ppca,vae"
BINARY_TRIO = "bernoulli_mixture,bernoulli_pca,vae"  # who stands in where x has probabilities


def compare_command(
    context: typer.Context,
    pairs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names, .py files, and folders of runs. Runs are not trained again. If there are runs, the others are trained on their data."
        ),
    ] = None,
    data: DataOption = "digits",
    models: Annotated[
        str | None,
        typer.Option(
            help='Names and .py files, separated by commas, with settings in brackets: "gmm,vae(guide=IAF)". "all": every model that '
            f"can be scored on these data [default: {TRIO}; binary data: {BINARY_TRIO}]."
        ),
    ] = None,
    epochs: EpochsOption = None,
    num_samples: BoundSamplesOption = None,
    tolerance: ToleranceOption = None,
    max_draws: MaxDrawsOption = 20_000,
    max_seconds: MaxSecondsOption = None,
    train_seeds: Annotated[
        int | None,
        typer.Option(
            min=2, help="Train each model from this many seeds, and add the error over trainings to the table."
        ),
    ] = None,
    decide: Annotated[
        bool,
        typer.Option(
            "--decide", help="Add draws where the order of the models is open, and state the order with an error rate."
        ),
    ] = False,
    tie_tolerance: Annotated[
        float, typer.Option(help="With --decide: the difference in nats per point that does not matter.")
    ] = 0.01,
    error_rate: Annotated[
        float, typer.Option(help="With --decide: the probability that any statement of the order is wrong.")
    ] = 0.05,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None, typer.Option(help="New folder for the page, the table, the runs and the figures.")
    ] = None,
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
    """Compare log p(x) of models on the same held-out points.

    Each model is trained first, unless it is a run. The result is one table. If a model fails, the other rows remain,
    and the exit code is 1.
    """
    from rich.text import Text

    from ...evaluation.comparing import check_separate_parameters
    from ...evaluation.comparison import check_same_dim
    from ...evaluation.methods import Limits
    from ...evaluation.repeated_trainings import average_trainings
    from ...report import render
    from ...tables.comparison import as_text, show
    from ...utils.provenance import versions
    from ..report_contents import gather_contents

    check_decision_options(context)
    limits = Limits(max_draws, max_seconds)
    texts = listed_pairs(pairs or [], models)
    restored = load_runs([text for text in texts if is_run(text)], device_of(device))
    loaded = _load_data(context, restored).to(device_of(device))
    names = texts or (BINARY_TRIO if loaded.transform.discrete else TRIO).split(",")
    settings: dict[str, Any] = {
        "source": data_source(data), "transform": transform, "root": None if root is None else str(root.resolve()),
        "seed": seed, "epochs": epochs, "scored": False,
    }  # fmt: skip
    for run in restored.values():
        inspect_run(run, loaded)
        settings |= {"source": run.config.data, "transform": run.config.transform}
        settings["root"] = settings["root"] or run.config.root
    if epochs is not None and len(restored) == len(names):
        raise InvalidInputError("Runs are not trained again: leave out --epochs, or name a pair that is to be trained.")
    excluded: dict[str, str] = {}
    prepared = []
    for name in names:
        if is_run(name):
            prepared.append(restored[str(Path(name))])
        else:
            prepared += (
                prepare_all(loaded, settings, excluded) if name == ALL else [prepare_named(name, loaded, settings)]
            )
    unscored = without_density(prepared)
    if len(unscored) == len(prepared):
        reasons = dict.fromkeys([*excluded.values(), *unscored.values()])
        raise InvalidInputError(f"No pair can be scored on {loaded.name}: {'; '.join(reasons)}")
    if len({_folder(run) for run in prepared}) < len(prepared):
        raise InvalidInputError(
            f"{', '.join(texts)} names a model twice: give each once, or with other settings, files under names of their own."
        )
    check_same_dim({run.name: run.observed for run in prepared})
    trainings: dict[str, list[str]] = {}
    if train_seeds is not None:
        for place, run in reversed(list(enumerate(prepared))):
            if run.name not in restored and run.name not in unscored:
                name = run.name
                prepared[place : place + 1] = repeated = repeat_training(run, loaded, settings, train_seeds)
                trainings[name] = [each.name for each in repeated]
        if not trainings:
            raise InvalidInputError("Runs are not trained again: leave out --train-seeds, or name a pair to train.")
    runs = {run.name: run for run in prepared if run.name not in unscored}
    both = {name: (run.model, run.guide) for name, run in runs.items()}
    check_separate_parameters(both, loaded.train[:256])
    if json_file is None or out is None or out not in json_file.parents:
        check_writable(json_file)
    with output_folder(out, overwrite):
        if out is not None:
            config = {
                "command": "compare",
                "models": [_folder(run) for run in prepared if run.name not in restored],
                "runs": list(restored),
                "num_samples": num_samples,
                "tolerance": tolerance,
                "max_draws": max_draws,
                "max_seconds": max_seconds,
                "seed": seed,
                "train_seeds": train_seeds,
                "versions": versions(),
            }
            write_json(out / "config.json", config)
        with progress_bars() as progress:

            def train(run: "Run") -> None:
                if run.name not in restored:
                    train_with_progress(progress, run, loaded, None if out is None else out / _folder(run))

            trained = share_trainings([run for run in prepared if run.name not in restored], train, loaded.test.device)
            comparison = score_runs(progress, runs, loaded, num_samples, seed, tolerance, limits, trained)
            reconstructed = {run.name: run for run in prepared if run.name in unscored}
            failures = train_without_density(reconstructed.values(), trained)
        comparison = average_trainings(comparison, trainings)
        comparison = replace(comparison, failed={**comparison.failed, **failures})
        shown = {name: runs[trainings.get(name, [name])[0]] for name in comparison.evidence}
        every = {**shown, **{name: run for name, run in reconstructed.items() if name not in failures}}
        reconstructions = Reconstructions(every.values(), loaded, seed)
        metadata = {**loaded.metadata(), **next(iter(comparison.evidence.values())).metadata, "seed": seed}
        if trainings:
            metadata["train_seeds"] = [seed + number for number in range(train_seeds or 0)]
        content = {"metadata": metadata, **comparison.to_dict(), "excluded": excluded}
        content["reconstructions"] = reconstructions.to_dict()
        below = [*reconstructions.tables(), *([exclusions(excluded)] if excluded else [])]
        if decide:
            decision = decide_with_progress(comparison, both, loaded.test, seed, tie_tolerance, error_rate)
            content["decision"] = decision.to_dict()
            below.append(Text(f"{decision.message}\n"))
        if out is not None:
            write_text(out / "table.txt", as_text(comparison, metadata, below))
            write_json(out / "comparison.json", content)
            _save_figures(out, comparison, shown, loaded, seed, reconstructions)
            page = gather_contents(comparison, metadata, every, loaded, reconstructions, seed, excluded)
            write_text(out / "report.html", render(page))
        if json_file is not None:
            write_json(json_file, content)
    show(comparison, metadata, console(), below)
    if out is not None:
        print(f"table, runs, figures and report.html: {out}")
    if failed := comparison.failed:
        raise RunError(
            f"{len(failed)} of {len(failed) + len(comparison.evidence)} pairs failed, {', '.join(failed)}: the lines below the table say why."
        )


def _load_data(context: typer.Context, runs: Mapping[str, "Run"]) -> "Data":
    """The data of the runs, if there are any; else those of the command line."""
    if runs:
        from ...runs.run import data_of

        name, run = next(iter(runs.items()))
        if own := options_given(context, lambda option: option in OF_DATA):
            raise InvalidInputError(f"The data are those that {name} was trained on: leave out {', '.join(own)}.")
        return data_of(run, context.params["root"])
    return load_given_data(context)


def _folder(run: "Run") -> str:
    """Its name in the comparison's folder, which shells take as it is."""
    return re.sub(r"[^\w.=+-]+", "-", run.name).strip("-")


def _save_figures(
    out: Path,
    comparison: "Comparison",
    runs: Mapping[str, "Run"],
    data: "Data",
    seed: int,
    reconstructions: Reconstructions,
) -> None:
    """The figures; of a pair that was trained several times its first training."""
    from ... import plots

    fits = {name: in_units_of(data, run.fit_result) for name, run in runs.items() if run.fit_result.history}
    figures = {
        **({"learning_curves.png": plots.learning_curves(fits, comparison.evidence)} if fits else {}),
        "evidence.png": plots.evidence_plot(comparison),
        **reconstructions.figures(),
    }
    if len(comparison.evidence) > 1:
        figures["differences.png"] = plots.difference_plot(comparison)
    with contextlib.suppress(InvalidInputError):  # no weights vary
        figures["pareto_k.png"] = plots.pareto_k_plot(comparison)
    if data.shape is not None:
        draws = {name: data.transform.grey(draw_points(run, data, 24, seed)) for name, run in runs.items()}
        shown = data.transform.grey(data.test[:24].cpu())
        figures["samples.png"] = plots.samples_beside_data(shown, draws, data.shape)
    for name, figure in figures.items():
        save_figure(out / name, plots.note(figure, (data.name, f"seed {seed}")))
