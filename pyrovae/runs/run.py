"""A run: one trained pair in a folder of its own, with all that is needed to score it again and to repeat it.

- RUN/config.json: model, options, data, training arguments, versions
- RUN/checkpoint.pt: the pair, and the state of its training: tensors and numbers only, loaded without running code
- RUN/checkpoint.previous.pt: the one before it
- RUN/metrics.csv: a row for each epoch
- RUN/model.py: a copy of the user's model file, where the model is one
- RUN/option_NAME.py: a copy of the user's file that option NAME takes a class from, where it does
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.builtin import NAMES
from ..data.datasets import DTYPES, Data, load_data
from ..data.transforms import transform_from_state
from ..errors import InvalidInputError
from ..evaluation.base_measure import check_base_measure
from ..loading.options import plain
from ..loading.pairs import PairBuilder
from ..loading.registry import check_guide
from ..loading.user_files import absolute, copy_for_run, label
from ..pair.execution import ModelOrGuide, modules
from ..pair.parameters import unconstrained_parameters
from ..pair.state import load_pair_state, pair_state, store_names
from ..pair.structure import Structure, inspect_pair
from ..training import Checkpoints, FitResult, fit, validate
from ..training.arguments import recipe_arguments
from ..training.batches import fingerprint, source_of
from ..training.callbacks import Callback
from ..training.checkpoints import load_checkpoint
from ..utils.distributed import ProcessGroup
from ..utils.files import replacing
from ..utils.provenance import dtype_name, versions
from ..utils.random import fork_rng
from .config import Config, parse_fit_arguments
from .folder import read_run, write_config
from .metrics import MetricsFile
from .missing_values import check_missing_values

CHECKPOINT_SECONDS = 5.0  # at most so much training is lost to a kill


@dataclass
class Run:
    """A trained pair, how it was made, and how its training went."""

    config: Config
    pair: PairBuilder
    model: ModelOrGuide
    guide: ModelOrGuide
    fit_result: FitResult
    store: tuple[str, ...] = ()  # names of parameters that live in Pyro's store: those of pairs written as functions
    files: dict[str, bytes] = field(default_factory=dict)  # copies of the user's own, by their names in the folder
    structure: Structure | None = None  # what was seen of the pair before training; None for a run that was loaded
    name: str = ""  # what it is called in tables: the model's name, if nothing else is said
    data_fingerprint: list[int] | None = None  # of the points that a loaded run was trained on

    def __post_init__(self) -> None:
        self.name = self.name or self.config.model

    @property
    def observed(self) -> int:
        """How many numbers of each point are scored; 0 where that is not known."""
        return self.structure.observed if self.structure is not None else 0

    @property
    def trained_on(self) -> str:
        """The data in words: their name, transform and split."""
        transform = self.config.transform or "the data's own"
        return f"{self.config.data} (transform: {transform}; split seed {self.config.split_seed})"


def prepare_run(
    pair: PairBuilder,
    data: Data,
    *,
    source: str,
    transform: str | None,
    root: str | None,
    options: list[str],
    seed: int,
    scored: bool = True,
    **settings: Any,
) -> Run:
    """Build the pair for the data and look it over, before anything is trained or written.

    `settings` are training arguments, as `parse_fit_arguments` reads them. Those that are None are the pair's own (its
    TRAINING_DEFAULTS), then `fit`'s. A recipe's `steps` are as many epochs as they need on these data. Of options of one name the last stands. A pair
    with an option `likelihood` gets the Bernoulli on binary data, unless told otherwise, and on densities of pixels its PIXEL_OPTIONS.
    Raises `InvalidInputError` where the pair cannot score these data; one that is not to be `scored` may have no log p(x) at all.
    """
    arguments = recipe_arguments(pair.recipe, len(data.train), **settings)
    arguments.setdefault("epochs", signature(fit).parameters["epochs"].default)
    config = Config(
        model=pair.name,
        user_file=pair.file is not None,
        options=with_data_options([absolute(option, Path.cwd()) for option in _last_of_each(options)], pair, data),
        data=source,
        transform=transform,
        fitted_transform=data.transform.state(),
        reading=data.reading,
        column_names=list(data.column_names),
        dtype=dtype_name(data.test.dtype),
        split_seed=data.seed,
        root=root,
        dim=data.dim,
        seed=seed,
        fit_arguments=arguments,
        versions=versions(),
    )
    return _checked_run(pair, config, data, scored)


def _resolved_options(pair: PairBuilder, options: list[str], model: ModelOrGuide) -> dict[str, str]:
    """Return every option of the pair as text: as given, else its default, else what the model has in its place."""
    resolved = dict[str, str]()
    for name, default in pair.options.items():
        value = getattr(model, name, None) if default is None else default
        if isinstance(value, nn.Module):
            value = type(value)
        if value is not None and not isinstance(value, Tensor):
            resolved[name] = plain(value)
    return resolved | {
        name.strip(): text.strip() for name, _, text in (label(option).partition("=") for option in options)
    }


def _checked_run(pair: PairBuilder, config: Config, data: Data, scored: bool) -> Run:
    """The pair as it stands before its first step, after every check that needs none."""
    batch_size = config.fit_arguments.get("batch_size", signature(fit).parameters["batch_size"].default)
    x = data.train[: batch_size or None]  # the first batch, if none are held out: training needs no other inspection
    try:
        model, guide = _build(pair, config, x.device)
        check_missing_values(pair.name, model, data)
        structure = inspect_pair(model, guide, x, scored=scored)
    except InvalidInputError:
        _check_guide(pair, config, x)
        raise
    config = replace(config, resolved_options=_resolved_options(pair, config.options, model))
    if not structure.no_density:
        check_base_measure(structure, data.transform)
    arguments = parse_fit_arguments(config.fit_arguments)
    structure = validate(model, guide, data.train, structure=structure, seed=config.seed, **arguments)
    files = {"model.py": pair.file} if pair.file is not None else {}
    files |= {copy: file for _, copy, file in filter(None, map(copy_for_run, config.options))}
    contents = {name: file.read_bytes() for name, file in files.items()}
    return Run(config, pair, model, guide, FitResult(), store_names(structure), contents, structure)


def resume_run(folder: Path, device: torch.device) -> tuple[Run, Data]:
    """A run whose training was stopped, with its data, ready for `train(…, resume=True)`.

    Raises `InvalidInputError` where the folder is no run, or a damaged one.
    """
    config, pair = read_run(folder)
    loaded = read_data(config).to(device)
    if loaded.dim != config.dim:
        raise InvalidInputError(
            f"{folder} was begun on points of {config.dim} numbers, and {loaded.name} now has {loaded.dim}."
        )
    return _checked_run(pair, config, loaded, scored=False), loaded


def read_data(config: Config, other: str | None = None, root: str | Path | None = None) -> Data:
    """The data that a run was trained on or, for `other` data, all their points: read, and made into x, as the run's own.

    Raises `InvalidInputError` for values that the run's transform is not made for, by row and column.
    """
    try:
        transform = transform_from_state(config.fitted_transform)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(f"The run's config.json has no transform that can be read: {error}.") from error
    reading = {**config.reading, "dtype": config.dtype}
    if other is not None:
        reading = {**reading, "columns": config.column_names}
        reading = {"dtype": config.dtype} if other in NAMES else reading
    return load_data(
        other or config.data,
        transform,
        seed=config.split_seed,
        root=root or config.root,
        split=other is None,
        **reading,
    )


def epochs_completed(folder: Path, config: Config) -> int:
    """After how many epochs the training came to its end; 0 where it has not."""
    if not Checkpoints(folder).exist():
        return 0
    done = load_checkpoint(folder)["training"]["result"]
    return len(done["losses"]) if done["stop_reason"] or len(done["losses"]) >= config.fit_arguments["epochs"] else 0


def train_run(
    run: Run,
    data: Data,
    folder: Path | None,
    on_epoch: Callable[[FitResult], None] | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    resume: bool = False,
) -> None:
    """Fit the run's pair; with a folder, keep its state and its metrics there. `resume` goes on from the state that is there."""
    keep = None if folder is None else Checkpoints(folder, CHECKPOINT_SECONDS)
    if keep is not None:
        keep.resume = resume and keep.exist()  # stopped before the first one, it begins again
    writes = folder is not None and ProcessGroup().first
    if folder is not None and writes and not resume:
        write_config(run.config, run.files, folder)

    metrics = MetricsFile(folder / "metrics.csv") if folder is not None and writes else None

    def after_epoch(progress: FitResult) -> None:
        run.fit_result = progress
        if metrics is not None:
            metrics.add(progress.history)
        if on_epoch:
            on_epoch(progress)

    run.fit_result = fit(
        run.model,
        run.guide,
        data.train,
        seed=run.config.seed,
        checkpoints=keep,
        on_epoch=after_epoch,
        callbacks=callbacks,
        structure=run.structure,
        progress=False,  # the caller has `on_epoch`
        **parse_fit_arguments(run.config.fit_arguments),
    )
    # a kill may have come between the last checkpoint and its row
    if metrics is not None and run.fit_result.history and not metrics.begun:
        metrics.add(run.fit_result.history)


def _build(pair: PairBuilder, config: Config, device: torch.device) -> tuple[ModelOrGuide, ModelOrGuide]:
    with fork_rng(device, config.seed):
        model, guide = pair(config.dim, **pair.parse(config.options))
    for module in modules(model, guide):
        module.to(device, DTYPES[config.dtype])
    return model, guide


def _check_guide(pair: PairBuilder, config: Config, x: torch.Tensor) -> None:
    """Where it is the guide that the pair cannot be run under: which it takes."""
    options, default = pair.parse(config.options), pair.options.get("guide")

    def build(guide: type) -> tuple[ModelOrGuide, ModelOrGuide]:
        with fork_rng(x.device):
            model, q = pair(config.dim, **{**options, "guide": guide})
        for module in modules(model, q):
            module.to(x)
        return model, q

    check_guide(pair.name, options.get("guide"), default, getattr(pair.module, "GUIDES", ()), build, x)


def _last_of_each(options: list[str]) -> list[str]:
    """The option that stands, as `parse` has it, where a name is given twice: only one file of a name can be kept."""
    return list({option.partition("=")[0].strip(): option for option in options}.values())


def with_data_options(options: list[str], pair: PairBuilder, data: Data) -> list[str]:
    """The options, and those that the pair has for data of this kind, where they are not given."""
    given = {option.partition("=")[0].strip() for option in options}
    suited: dict[str, Any] = {}
    if data.transform.discrete and "likelihood" in pair.options:
        suited["likelihood"] = data.transform.likelihood
    elif data.transform.pixels and not data.transform.discrete:
        suited = getattr(pair.module, "PIXEL_OPTIONS", {})
    return [*options, *(f"{name}={value}" for name, value in suited.items() if name not in given)]


def _fingerprint(config: Config, points: list[int] | None) -> list[int] | None:
    """Without the checksum of points that are drawn anew at every use: it goes by the device that drew them."""
    is_fresh = transform_from_state(config.fitted_transform).fresh
    return points[:2] if points is not None and is_fresh else points


def data_of(run: Run, root: str | Path | None = None) -> Data:
    """The data of a loaded run, on the CPU; `root` is where MNIST lies now, if not where it was.

    Raises `InvalidInputError` where they are no longer what the run was trained on.
    """
    config = run.config
    data = read_data(config, root=root)
    known, points = run.data_fingerprint, fingerprint(source_of(data.train, None, 0, data.test.device, missing=True))
    if known is not None and points is not None and points[: len(known)] != known:
        raise InvalidInputError(
            f"{run.name} was trained on other points than {run.trained_on} has now: restore the data, or train it again."
        )
    return data


def load_run(folder: str | Path, device: torch.device | str = "cpu") -> Run:
    """Load the trained pair that `pyrovae train` or `pyrovae compare` left in a folder.

    A run of your own model file runs the copy of that file in the folder.

    Args:
        folder: The folder of the run.
        device: Where the parameters are to be.

    Returns:
        The run, with `.model`, `.guide`, `.fit_result` and `.config`.

    Raises:
        InvalidInputError: The folder is no run, or a damaged one.

    Example:
        >>> import pyrovae
        >>> run = pyrovae.load_run("runs/vae")  # doctest: +SKIP
        >>> run.model, run.guide, run.config.options  # doctest: +SKIP
    """
    folder, device = Path(folder), torch.device(device)
    config, pair = read_run(folder)
    state = load_checkpoint(folder, device)
    model, guide = _build(pair, config, device)
    # pyro.param creates what it names when it is run; no density is asked for, so the zeros may lie outside the support
    unconstrained_parameters(torch.zeros(2, config.dim, device=device, dtype=DTYPES[config.dtype]), guide, model)
    try:
        load_pair_state(state["pair"], model, guide)
        names, progress = tuple(state["pair"]["store"]), FitResult(**state["training"]["result"])
        points = _fingerprint(config, state["training"]["fingerprint"].get("data"))
    except (RuntimeError, KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidInputError(
            f"The checkpoint of {folder} does not fit the model of {folder / 'config.json'}: {reason}"
        ) from error
    return Run(config, pair, model, guide, progress, names, data_fingerprint=points)


def save_as(run: Run, folder: Path, new: Path) -> None:
    """Write the pair of a run that was loaded from `folder` to the folder `new`, with what else is in the run."""
    new.mkdir(parents=True, exist_ok=True)
    for file in (folder / "config.json", folder / "metrics.csv", *folder.glob("*.py")):
        if file.is_file():
            with replacing(new / file.name) as copy:
                copy.write_bytes(file.read_bytes())
    state = load_checkpoint(folder)
    Checkpoints(new).save({**state, "pair": pair_state(run.model, run.guide, run.store)})
