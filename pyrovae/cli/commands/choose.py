"""pyrovae choose: train a pair under several values of an option, and compare held-out log p(x)."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import InvalidInputError, RunError
from ..common import data_source, device_of, load_given_data, options_given
from ..errors import warnings_on_stderr
from ..options import (
    BatchOption,
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
    RateOption,
    RootOption,
    SeedOption,
    SplitSeedOption,
    ToleranceOption,
    TransformOption,
)
from ..output import (
    check_writable,
    console,
    output_folder,
    progress_bars,
    save_figure,
    write_csv,
    write_json,
    write_text,
)

if TYPE_CHECKING:
    from ...data.datasets import Data
    from ...evaluation.candidates import Points


def choose_command(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help='A name or a .py file, with the settings that stay as they are: "vae(guide=IAF)".')
    ],
    over: Annotated[
        str,
        typer.Option(help="The option and its values, such as components=1..30, latent=2,4,8 or covariance=Full,Tied."),
    ],
    folds: Annotated[
        int | None, typer.Option(min=2, help="Use cross-validation with this many folds, for small data sets.")
    ] = None,
    validation_fraction: Annotated[
        float, typer.Option(help="Fraction of the points to hold out, if there are no folds.")
    ] = 0.2,
    all_points: Annotated[
        bool,
        typer.Option(
            "--all-points", help="Use the test points for the choice too. None are left to evaluate the winner."
        ),
    ] = False,
    data: DataOption = "digits",
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    lr: RateOption = None,
    init: Annotated[
        str | None, typer.Option(help="em: start training from the result of expectation maximisation.")
    ] = None,
    num_samples: BoundSamplesOption = None,
    tolerance: ToleranceOption = None,
    level: Annotated[float, typer.Option(help="Probability that the best set holds the best of the values.")] = 0.95,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    out: Annotated[Path | None, typer.Option(help="New folder for the table, JSON, CSV and the figure.")] = None,
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
    """Choose the value of an option by held-out log p(x).

    The model is trained under each value, and compared on points that are held out from the training points. The test
    points have no part in it, so that `compare` can evaluate the model that was chosen.
    """
    from ...evaluation.choosing import choose
    from ...loading.options import parse_range, with_settings
    from ...loading.pairs import load
    from ...runs.config import parse_fit_arguments
    from ...runs.run import with_data_options
    from ...tables.choice import as_text, show
    from ...utils.provenance import versions

    if folds is not None and options_given(context, lambda option: option == "validation_fraction"):
        raise InvalidInputError("Folds hold out every point once: leave out --validation-fraction, or --folds.")
    name, settings = with_settings(model)
    pair = load(name)
    option, values = parse_range(over, pair.parse)
    loaded = load_given_data(context).to(device_of(device))
    fixed = pair.parse(with_data_options(settings, pair, loaded))
    if option in fixed:
        raise InvalidInputError(f"{option} is both fixed and chosen: leave it out of {model}, or out of --over.")
    if json_file is None or out is None or out not in json_file.parents:
        check_writable(json_file)
    given = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "init": init}
    training = {**pair.recipe, **{key: value for key, value in given.items() if value is not None}}
    if epochs is not None:
        training.pop("steps", None)
    with output_folder(out, overwrite):
        if out is not None:
            config = {
                "command": "choose",
                "model": model,
                "over": over,
                "data": data_source(data),
                "reading": loaded.reading,
                "folds": folds,
                "num_samples": num_samples,
                "tolerance": tolerance,
                "seed": seed,
                "versions": versions(),
            }
            write_json(out / "config.json", config)
        with progress_bars() as progress, warnings_on_stderr(pair.name):
            task = progress.add_task(f"{pair.name}", total=len(values), note="")
            choice = choose(
                functools.partial(pair, **fixed),
                {option: values},
                _points(loaded, all_points),
                num_samples,
                seed,
                tolerance=tolerance,
                validation_fraction=validation_fraction,
                folds=folds,
                level=level,
                transform=loaded.transform,
                training=parse_fit_arguments(training),
                on_candidate=lambda value: progress.update(task, advance=1, note=f"{option}={value}"),
            )
        metadata = {**loaded.metadata(), **choice.metadata}
        content = {**choice.to_dict(), "metadata": metadata}
        if out is not None:
            from ...plots import choice_plot, note

            write_text(out / "table.txt", as_text(choice, metadata))
            write_json(out / "choice.json", content)
            write_csv(out / "choice.csv", choice.rows())
            save_figure(out / "choice.png", note(choice_plot(choice), (loaded.name, pair.name, f"seed {seed}")))
        if json_file is not None:
            write_json(json_file, content)
    show(choice, metadata, console())
    if out is not None:
        print(f"table, JSON, CSV and figure: {out}")
    if choice.failed:
        raise RunError(f"{len(choice.failed)} of {len(values)} values failed: the lines below the table say why.")


def _points(data: "Data", all_points: bool) -> "Points":
    """The training points, or all of them."""
    import torch

    if not all_points:
        return data.train
    if not isinstance(data.train, torch.Tensor):
        raise InvalidInputError(
            "Training points are drawn anew at every use: leave out --all-points, or binarise once by --transform threshold."
        )
    return torch.cat([data.train, data.test])
