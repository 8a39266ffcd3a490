"""choose(): train a pair under several values of an option, and compare held-out log p(x)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

import torch

from ..data.transforms import Transform
from ..errors import GroupError, InvalidInputError, RunError, check_int, did_you_mean, failure_message
from ..estimators.mode_sampling import check_tolerance
from ..pair.execution import ModelOrGuide
from ..statistics.paired_tests import check_level
from ..training.arguments import TrainingSettings, recipe_arguments
from ..utils.distributed import ProcessGroup, alone
from ..utils.progress import progress_bar
from ..utils.provenance import metadata
from .candidates import CandidateWork, Points
from .choice import Candidate, Choice, label_of
from .evaluating import GUIDE_DRAWS, TOLERANCE
from .splits import Splitter, fold_splits, random_split


def choose(
    build: Callable[..., tuple[ModelOrGuide, ModelOrGuide]],
    over: Mapping[str, Iterable[Any]],
    x: Points,
    num_samples: int | None = None,
    seed: int = 0,
    *,
    tolerance: float | None = None,
    validation_fraction: float = 0.2,
    folds: int | Splitter | None = None,
    level: float = 0.95,
    transform: Transform | None = None,
    training: Mapping[str, Any] | None = None,
    on_candidate: Callable[[str], None] | None = None,
    progress: bool = True,
) -> Choice:
    """Train a pair under each value of an option, and compare log p(x) of points that were not trained on.

    All candidates are trained on the same points and scored on the same others, so that differences are paired. A
    random part of x is held out, or each of the `folds` in turn. Folds share training points, so their errors are
    somewhat too small (Bengio & Grandvalet 2004).

    The mean of the best value is too high, because it was chosen for being high. Score the chosen pair on points that
    had no part in the choice.

    Processes of a group train one value each at a time. Every value is trained and scored in one process, so the numbers
    are those of one process, bit for bit.

    Args:
        build: Makes a pair: `build(dim, name=value)` returns (model, guide). What `load` returns is one.
        over: The option and its values: `{"latent": [2, 4, 8]}`.
        x: The points to choose on (N, D). These are training points. Keep test points for the pair that was chosen.
        num_samples: As for `evaluate`.
        seed: Of the split, of training and of scoring.
        tolerance: As for `evaluate`.
        validation_fraction: The fraction of the points to hold out, if there are no folds.
        folds: How many folds, or an object with `split(x)`, such as scikit-learn's `KFold(5)`.
        level: The probability that the best set holds the best of the candidates.
        transform: What made x out of pixels.
        training: Arguments of `fit`, `steps` among them. Default: TRAINING_DEFAULTS of the file.
        on_candidate: Called with the name of each value before it is trained.
        progress: Whether to show a bar in a terminal or a notebook, if `on_candidate` is not given.

    Returns:
        A `Choice`. Its BIC is of the training points. With folds it is of all points, after one more fit to all.

    Raises:
        InvalidInputError: The option has no values, or one twice; a pair cannot be scored on these points.
        RunError: No value could be trained and scored.

    References:
        Schwarz (1978). Estimating the dimension of a model.
        Minka (2000). Automatic choice of dimensionality for PCA.

    Example:
        >>> import pyrovae, torch
        >>> x = torch.randn(60, 2)
        >>> choice = pyrovae.choose(pyrovae.load("gmm"), {"components": [1, 2]}, x, training={"epochs": 2})
        >>> choice.best in ("1", "2")
        True
    """
    option, values = _option(over)
    if num_samples is None:  # as `evaluate` does
        num_samples, tolerance = GUIDE_DRAWS, TOLERANCE if tolerance is None else tolerance
    check_int("num_samples", num_samples, 1)
    if tolerance is not None:
        check_tolerance(tolerance)
    check_level(level)
    splits = random_split(len(x), validation_fraction, seed) if folds is None else fold_splits(len(x), folds, seed)
    recipe = getattr(build, "recipe", {}) if training is None else training
    scoring = {"num_samples": num_samples, "tolerance": tolerance, "transform": transform}
    _check_training(recipe, len(splits[0][0]))
    work = CandidateWork(build, x, splits, folds is not None, dict(recipe), scoring, seed)
    for value in values.values():
        work.check({option: value})
    group = ProcessGroup()

    def own_part() -> tuple[dict[str, Candidate], dict[str, str]]:
        candidates: dict[str, Candidate] = {}
        failed: dict[str, str] = {}
        with alone(), progress_bar("choose", len(values), progress and group.first and on_candidate is None) as advance:
            for name in list(values)[group.rank :: group.count]:
                advance(0, f"{option}={name}")
                if on_candidate:
                    on_candidate(name)
                try:
                    candidates[name] = replace(work.candidate(option, name, values[name]), value=None)
                except GroupError:
                    raise
                except Exception as error:
                    message = failure_message(error)
                    if message is None:
                        raise
                    failed[name] = message
                advance(group.count, f"{option}={name}")
        return candidates, failed

    parts = group.collect(own_part)
    found = {name: candidate for candidates, _ in parts for name, candidate in candidates.items()}
    candidates = {name: replace(found[name], value=value) for name, value in values.items() if name in found}
    failed = {name: message for _, failures in parts for name, message in failures.items()}
    failed = {name: failed[name] for name in values if name in failed}
    if not candidates:
        raise RunError(f"Every value failed, {'; '.join(f'{name}: {why}' for name, why in failed.items())}")
    settings = {"seed": seed, "num_samples": num_samples, "tolerance": tolerance}
    return Choice(
        option,
        candidates,
        num_train=max(len(rows) for rows, _ in splits),
        num_folds=0 if folds is None else len(splits),
        level=level,
        minka=work.minka_latent({option: value}) if option == "latent" else None,
        failed=failed,
        metadata=metadata(work.values(torch.arange(1)), **settings),
    )


def _option(over: Mapping[str, Iterable[Any]]) -> tuple[str, dict[str, Any]]:
    """The option's name, and its values by their names."""
    if len(over) != 1:
        raise InvalidInputError(f"over has {len(over)} options: give one, such as {{'latent': [2, 4, 8]}}.")
    ((option, given),) = over.items()
    listed = list(given)
    values = {label_of(value): value for value in listed}
    if not values:
        raise InvalidInputError(f"{option} has no values to choose from: give some, such as [2, 4, 8].")
    if len(values) < len(listed):
        raise InvalidInputError(f"{option} has a value twice: {', '.join(map(label_of, listed))}.")
    return option, values


def _check_training(recipe: Mapping[str, Any], num_points: int) -> None:
    """Raise `InvalidInputError` for what is no argument of `fit`, or none that a training can have."""
    known = [each.name for each in fields(TrainingSettings)]
    for name in recipe:
        if name not in (*known, "steps"):
            raise InvalidInputError(f"training has '{name}'{did_you_mean(name, known)}, which is no argument of fit.")
    TrainingSettings(**recipe_arguments(recipe, num_points)).check()
