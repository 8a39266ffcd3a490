"""The pairs that `compare` is asked for: built-in names, the user's files, and folders of runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInputError
from .common import add_score_task, with_few_values
from .processes import tell

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress
    from rich.text import Text

    from ..data.datasets import Data
    from ..evaluation.comparison import Comparison
    from ..evaluation.methods import Limits
    from ..runs.run import Run
    from ..training.result import FitResult

ALL = "all"


def listed_pairs(positional: Sequence[str], models: str | None) -> list[str]:
    """Each pair as it was asked for. Names may be separated by commas; a folder's name is taken as it is."""
    from ..loading.options import listed

    texts = [text for each in positional for text in ([each] if Path(each).is_dir() else listed(each))]
    return texts + (listed(models) if models else [])


def is_run(text: str) -> bool:
    """Whether the text names a folder. A built-in name stands for the pair, also where a folder has that name."""
    from ..loading.pairs import available

    return Path(text).is_dir() and text not in available()


def load_runs(texts: Sequence[str], device: "torch.device") -> dict[str, "Run"]:
    """The runs of these folders by their names, after the check that all were trained on the same data."""
    from ..evaluation.trained_pair import check_same_training_data
    from ..runs.run import load_run

    runs: dict[str, Run] = {}
    for text in texts:
        run = load_run(text, device)
        run.name = str(Path(text))
        if run.name in runs:
            raise InvalidInputError(f"{run.name} is named twice: name each run once.")
        runs[run.name] = run
        done, epochs = len(run.fit_result.losses), run.config.fit_arguments["epochs"]
        if done < epochs and not run.fit_result.stop_reason:
            tell(f"the training of {run.name} was stopped after {done} of {epochs} epochs.")
    check_same_training_data(runs)
    return runs


def score_runs(
    progress: "Progress",
    runs: Mapping[str, "Run"],
    data: "Data",
    num_samples: int | None,
    seed: int,
    tolerance: float | None,
    limits: "Limits | None" = None,
    train: Callable[["Run"], None] = lambda run: None,
) -> "Comparison":
    """Score all runs on the held-out points, each under a bar of its own, after `train` has trained it where that is due."""
    from ..evaluation.comparing import score_pairs

    bars: list[Callable[[float], None]] = []

    def begin(name: str) -> "FitResult":
        train(runs[name])
        bars.append(add_score_task(progress, name, len(data.test), num_samples, tolerance))
        return runs[name].fit_result

    comparison = score_pairs(
        {name: (run.model, run.guide) for name, run in runs.items()},
        data.test,
        num_samples,
        seed,
        tolerance=tolerance,
        limits=limits,
        transform=data.transform,
        on_progress=lambda count: bars[-1](count),
        train=begin,
        keep_failures=True,
    )
    return replace(
        comparison,
        evidence={name: with_few_values(evidence, data) for name, evidence in comparison.evidence.items()},
    )


def inspect_run(run: "Run", data: "Data") -> None:
    """Check a loaded run as one that is to be trained is checked: before anything else is done."""
    from ..evaluation.base_measure import check_base_measure
    from ..pair.structure import inspect_pair

    run.structure = inspect_pair(run.model, run.guide, data.test[:1024], scored=False)
    if not run.structure.no_density:
        check_base_measure(run.structure, data.transform)


def prepare_named(text: str, data: "Data", settings: dict[str, Any]) -> "Run":
    """A pair that is still to be trained, by its name and its options, `vae(latent=4)`."""
    from ..loading.options import with_settings
    from ..loading.pairs import load
    from ..loading.user_files import label
    from ..runs.run import prepare_run

    name, options = with_settings(text)
    if name == ALL:
        raise InvalidInputError(f"{ALL} takes no settings: name the pairs that are to have {', '.join(options)}.")
    run = prepare_run(load(name), data, options=options, **settings)
    run.name += f"({', '.join(map(label, options))})" if options else ""
    return run


def repeat_training(run: "Run", data: "Data", settings: dict[str, Any], count: int) -> list["Run"]:
    """So many trainings of a prepared pair, each from a seed of its own: the run's, and those that follow it."""
    from ..evaluation.repeated_trainings import training_name
    from ..runs.run import prepare_run

    if run.store:
        raise InvalidInputError(
            f"{run.name} keeps its parameters in Pyro's global store, so that its trainings would share them: write it as "
            "a pyrovae.Module, or leave out --train-seeds."
        )
    name, seed = run.name, run.config.seed
    own = {**settings, "options": run.config.options}
    runs = [run, *(prepare_run(run.pair, data, **{**own, "seed": seed + number}) for number in range(1, count))]
    for number, each in enumerate(runs, start=1):
        each.name = training_name(name, number)
    return runs


def prepare_all(data: "Data", settings: dict[str, Any], excluded: dict[str, str]) -> list["Run"]:
    """Return the built-in pairs that give all of x a density, or a probability, as the data need, or that reconstruct it.

    Also return why the others do not.
    """
    from ..loading.pairs import available

    prepared = []
    for name in available():
        try:
            run = prepare_named(name, data, settings)
        except InvalidInputError as refusal:
            excluded[name] = str(refusal)
            continue
        if run.observed < data.dim:
            excluded[name] = f"It scores {run.observed} of the {data.dim} numbers of each point, given the rest."
        else:
            prepared.append(run)
    return prepared


def exclusions(excluded: dict[str, str]) -> "Text":
    """A line for each reason, and whom it keeps out."""
    from rich.text import Text

    names: dict[str, list[str]] = {}
    for name, why in excluded.items():
        names.setdefault(why, []).append(name)
    return Text("\n".join(f"left out, {', '.join(those)}: {why}" for why, those in names.items()) + "\n")
