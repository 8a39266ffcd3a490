"""The command line: compare, train, evaluate, sample, models."""

import contextlib
import functools
import inspect
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from . import __version__, plots, runs
from .comparison import Comparison
from .datasets import Data, load_data
from .errors import Diverged, Refusal
from .evaluation import evaluate, versions
from .evidence import Evidence
from .loading import available, load
from .options import plain
from .report import WIDTH, as_text, show
from .running import fork_rng
from .running import sample as draw
from .training import Fit

TRIO = "gmm,ppca,vae"
BINARY_TRIO = "bernoulli_mixture,bernoulli_pca,vae"  # who stands in where x has probabilities

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Latent-variable models as Pyro model/guide pairs, with a log p(x) that can be believed.",
)


def main() -> None:
    app()


def sentences(command: Callable[..., None]) -> Callable[..., None]:
    """What goes wrong is said in one sentence: exit code 2 for what was asked, 1 for what happened, 130 for Ctrl-C."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        notes: BaseException
        try:
            command(*args, **kwargs)
            return
        except Refusal as error:
            code, message, notes = 2, str(error), error
        except Diverged as error:
            code, message, notes = 1, str(error), error
        except torch.OutOfMemoryError as error:
            code, message, notes = 1, "The device is out of memory: use --device cpu, or a smaller model.", error
        except OSError as error:
            file = f": {error.filename}" if error.filename else ""
            code, message, notes = 1, f"{error.strerror or error}{file}.", error
        except KeyboardInterrupt as error:
            code, message, notes = 130, "stopped; `pyrovae evaluate` reads the last checkpoint of each run.", error
        said = " ".join([message, *getattr(notes, "__notes__", [])])
        print(f"pyrovae: {' '.join(said.split())}", file=sys.stderr)
        raise typer.Exit(code)

    return run


DataOption = Annotated[str, typer.Option(help="digits, mnist, or a .npy, .npz or .csv file with a point to a row.")]
TransformOption = Annotated[
    str | None, typer.Option(help="dequantise, logit, binarise, threshold or none; the data's own if not given.")
]
SplitSeedOption = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, help="Seed of the split and of the noise that is drawn once.")
]
RootOption = Annotated[
    Path | None, typer.Option(help="Folder that holds MNIST/raw; else $PYROVAE_DATA, else the user's cache.")
]
DownloadOption = Annotated[bool, typer.Option("--download", help="Get MNIST if it is not in the folder.")]
SeedOption = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of all random draws but the split's.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
EpochsOption = Annotated[
    int | None, typer.Option(min=0, help="Passes over the training data; each pair's own if not given.")
]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Points to a step; the pair's own if not given.")]
RateOption = Annotated[float | None, typer.Option(help="Adam's first learning rate; the pair's own if not given.")]
SamplesOption = Annotated[int, typer.Option(min=1, help="Latent draws for each point.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option of the pair (`pyrovae models NAME`), name=value; may be repeated."),
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write everything there, in full precision.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it is an earlier run.")]


@app.command()
@sentences
def compare(
    data: DataOption = "digits",
    models: Annotated[
        str | None,
        typer.Option(help=f"Names and .py files, comma-separated [default: {TRIO}; binary data: {BINARY_TRIO}]."),
    ] = None,
    epochs: EpochsOption = None,
    samples: SamplesOption = 1000,
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
    """Train each pair, score all on the same held-out points, print one table."""
    loaded = load_data(data, transform, seed=split_seed, root=root, download=download).to(_device(device))
    names = [name.strip() for name in (models or (BINARY_TRIO if loaded.transform.discrete else TRIO)).split(",")]
    prepared = [
        runs.prepare(
            load(name),
            loaded,
            source=_source(data),
            transform=transform,
            root=None if root is None else str(root.resolve()),
            options=[],
            seed=seed,
            epochs=epochs,
        )
        for name in names
    ]
    if len({run.name for run in prepared}) < len(prepared):
        raise Refusal(f"{models} names a model twice: give each once, files under names of their own.")
    shared = [name for name, count in Counter(name for run in prepared for name in run.store).items() if count > 1]
    if shared:
        raise Refusal(
            f"Two of {models} name a pyro.param '{shared[0]}', so training one would move the other: give each its own name."
        )
    if json_file is None or out is None or out not in json_file.parents:
        _writable(json_file)
    with contextlib.nullcontext() if out is None else runs.new_folder(out, overwrite):
        if out is not None:
            told = {"command": "compare", "models": names, "samples": samples, "seed": seed, "versions": versions()}
            _write_json(out / "config.json", told)
        found: dict[str, Evidence] = {}
        with _progress() as progress:
            for place, run in enumerate(prepared):
                _train(progress, run, loaded, None if out is None else out / run.name)
                found[run.name] = _score(progress, run, loaded, samples, seed + place)  # as compare() does
        comparison = Comparison(found, {run.name: run.fit for run in prepared})
        card = {**loaded.card(), **next(iter(found.values())).card}
        content = {"card": card, **comparison.to_dict()}
        if out is not None:
            _write_text(out / "table.txt", as_text(comparison, card))
            _write_json(out / "comparison.json", content)
            _save_figures(out, comparison, prepared, loaded, seed)
        if json_file is not None:
            _write_json(json_file, content)
    show(comparison, card, _console())
    if out is not None:
        print(f"table, runs and figures: {out}")


@app.command()
@sentences
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
    loaded = load_data(data, transform, seed=split_seed, root=root, download=download).to(_device(device))
    run = runs.prepare(
        pair,
        loaded,
        source=_source(data),
        transform=transform,
        root=None if root is None else str(root.resolve()),
        options=settings or [],
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
    )
    with runs.new_folder(out, overwrite):
        with _progress() as progress:
            _train(progress, run, loaded, out)
        with runs.replacing(out / "learning_curve.png") as file:
            plots.learning_curves({run.name: run.fit}).savefig(file, dpi=150)
    if run.fit.losses and run.fit.losses[-1] > run.fit.losses[0]:
        print(f"pyrovae: {run.name} ended its training below where it began: lower --lr.", file=sys.stderr)
    last = f"training ELBO {-run.fit.losses[-1]:.3f} nats per point, " if run.fit.losses else ""
    print(f"{run.name}: {last}{run.fit.objective}, {run.fit.steps} steps, {run.fit.seconds:.1f} s; kept in {out}")


@app.command(name="evaluate")
@sentences
def evaluate_command(
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
) -> None:
    """Estimate log p(x) of the held-out points, with errors."""
    restored, loaded = _open(run, device, data, transform, root)
    _writable(json_file)
    _writable(netcdf)
    with _progress() as progress:
        evidence = _score(progress, restored, loaded, samples, seed)
    comparison = Comparison({restored.name: evidence}, {restored.name: restored.fit})
    card = {**loaded.card(), **evidence.card}
    if json_file is not None:
        _write_json(json_file, {"card": card, **comparison.to_dict()})
    if netcdf is not None:
        with runs.replacing(netcdf) as file:
            replace(evidence, card=card).to_arviz().to_netcdf(str(file))
    show(comparison, card, _console())


@app.command()
@sentences
def sample(
    run: Annotated[Path, typer.Argument(help="A folder that `pyrovae train --out` wrote.")],
    num: Annotated[int, typer.Option(min=1, help="How many.")] = 64,
    seed: SeedOption = 0,
    mean: Annotated[bool, typer.Option("--mean", help="Show E[x|z] instead of a draw of x.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="The PNG file, or a .npy file for the numbers [default: RUN/samples.png].")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw x from the trained model: a grid of images."""
    restored, loaded = _open(run, device, None, None, None)
    target = out or run / "samples.png"
    _writable(target)
    drawn = _draw(restored, loaded, num, seed, mean)
    if target.suffix not in (".png", ".npy"):
        raise Refusal(f"{target} is neither .png nor .npy: name a file of one of these kinds.")
    if target.suffix == ".npy":
        import numpy

        with runs.replacing(target) as file:
            numpy.save(file, drawn.numpy())
    elif loaded.shape is None:
        raise Refusal(f"The points of {loaded.name} are no images: name a .npy file with --out to get the numbers.")
    else:
        from torchvision.utils import save_image

        columns = max(1, round(num**0.5))
        images = loaded.transform.grey(drawn).reshape(num, 1, *loaded.shape)
        scale = max(1, 64 // loaded.shape[0])
        images = 1 - images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        with runs.replacing(target) as file:
            save_image(images, file, nrow=columns, padding=2, pad_value=0.8, format="png")
    print(f"{num} draws of {restored.name}: {target}")


@app.command()
@sentences
def models(
    model: Annotated[str | None, typer.Argument(help="A name or a .py file: show its options.")] = None,
) -> None:
    """What there is: a line for each pair, with its equation; or the options of one."""
    if model is not None:
        pair = load(model)
        print(f"{pair.name}: {pair.summary}\n\n{inspect.getdoc(pair.module.pair) or ''}\n")
        for name, default in pair.options.items():
            print(f"  --set {name}={plain(default)}")
        return
    sheet = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name in available():
        sheet.add_row(name, load(name).summary.rstrip("."))
    _console().print(sheet)
    print("\nA .py file that defines pair(dim, **options) stands wherever a name does. Options: pyrovae models NAME.")


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if show:
        print(__version__)
        raise typer.Exit


def _train(progress: Progress, run: runs.Run, data: Data, folder: Path | None) -> None:
    epochs = run.config.fit["epochs"]
    task = progress.add_task(f"train {run.name}", total=epochs, note="")

    def on_epoch(fit: Fit) -> None:
        progress.update(task, completed=len(fit.losses), note=f"ELBO {-fit.losses[-1]:.2f} nats/point")

    runs.train(run, data, folder, on_epoch)


def _score(progress: Progress, run: runs.Run, data: Data, samples: int, seed: int) -> Evidence:
    task = progress.add_task(f"score {run.name}", total=len(data.test), note=f"{samples} samples a point")
    return evaluate(
        run.model,
        run.guide,
        data.test,
        samples,
        seed,
        transform=data.transform,
        progress=lambda points: progress.advance(task, points),
    )


def _open(
    folder: Path, device: str, data: str | None, transform: str | None, root: Path | None
) -> tuple[runs.Run, Data]:
    run = runs.load_run(folder, _device(device))
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
    return run, loaded.to(_device(device))


def _draw(run: runs.Run, data: Data, num: int, seed: int, mean: bool = False) -> torch.Tensor:
    with fork_rng(data.test.device, seed):
        return draw(run.model, num, data.test, mean=mean).cpu()


def _save_figures(out: Path, comparison: Comparison, prepared: list[runs.Run], data: Data, seed: int) -> None:
    figures = {
        "learning_curves.png": plots.learning_curves({run.name: run.fit for run in prepared}),
        "evidence.png": plots.evidence_plot(comparison),
    }
    if data.shape is not None:
        draws = {run.name: data.transform.grey(_draw(run, data, 24, seed)) for run in prepared}
        shown = data.transform.grey(data.test[:24].cpu())
        figures["samples.png"] = plots.samples_beside_data(shown, draws, data.shape)
    for name, figure in figures.items():
        with runs.replacing(out / name) as file:
            figure.savefig(file, dpi=150)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise Refusal(f"There is no device '{name}': give auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise Refusal(
            "CUDA was asked for and torch finds none: use --device cpu, or install a driver and a CUDA build of torch."
        )
    return torch.device(name)


def _source(data: str) -> str:
    return data if data in ("digits", "mnist") else str(Path(data).resolve())


def _writable(path: Path | None) -> None:
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


def _write_text(path: Path, text: str) -> None:
    with runs.replacing(path) as file:
        file.write_text(text, encoding="utf-8")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _console() -> Console:
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=WIDTH)


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """Bars on standard error, and only where someone can watch them."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress
