"""compare(): who may stand beside whom, and by how much one is better."""

import itertools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import pyro
from torch import Tensor

from ..data.transforms import Transform
from ..errors import GroupError, InvalidInputError, RunError, failure_message
from ..estimators.mode_sampling import MAX_DRAWS, check_tolerance
from ..pair.execution import ModelOrGuide
from ..pair.parameters import unconstrained_parameters
from ..pair.validation import check_points, handles_missing
from ..training import FitResult
from ..utils.random import derived_seed
from .comparison import Comparison
from .evaluating import evaluate
from .methods import Limits
from .repeated_trainings import average_trainings, training_name
from .result import Evidence
from .trained_pair import Pair, TrainedPair, check_same_training_data


def compare(
    pairs: Mapping[str, Pair | list[Pair]],
    x: Tensor,
    num_samples: int | None = None,
    seed: int = 0,
    *,
    tolerance: float | None = None,
    max_draws: int = MAX_DRAWS,
    max_seconds: float | None = None,
    transform: Transform | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Comparison:
    """Evaluate trained pairs on the same points, and compare them point by point.

    A pair is a tuple (model, guide), or a run that `load_run` has read. Runs must have been trained on the same
    points. A list of pairs stands for trainings of one pair from several seeds. Its row is their mean, and
    differences have an error over trainings.

    Each pair draws from a seed that follows from `seed` and its name. So the Monte Carlo errors of two pairs are
    independent, and the numbers of a pair do not depend on its place in the list.

    Args:
        pairs: A pair, or a list of pairs, by name.
        x: The points (N, ...), on the device and in the type of the pairs' parameters.
        num_samples: As for `evaluate`.
        seed: The same seed gives the same numbers.
        tolerance: As for `evaluate`.
        max_draws: As for `evaluate`.
        max_seconds: As for `evaluate`, for each pair.
        transform: What made x out of pixels, for bits per dimension.
        on_progress: Called with the number of points done since its last call, a fraction.

    Returns:
        A `Comparison`, nats.

    Raises:
        InvalidInputError: The base measures differ, two pairs share parameters (in Pyro's global store, by name), or
            two runs were trained on different points.

    Example:
        >>> import pyrovae, torch
        >>> x = torch.randn(20, 3)
        >>> pairs = {"ppca": pyrovae.load("ppca")(3, latent=1), "gaussian": pyrovae.load("gaussian")(3)}
        >>> comparison = pyrovae.compare(pairs, x)
        >>> sorted(comparison.evidence)
        ['gaussian', 'ppca']
    """
    if not (isinstance(pairs, Mapping) and pairs):
        raise InvalidInputError("There is nothing to compare: give at least one pair, {'name': (model, guide)}.")
    limits = Limits(max_draws, max_seconds)
    every, trainings = _listed(pairs)
    for name, pair in every.items():
        if not isinstance(pair, TrainedPair | tuple) or (isinstance(pair, tuple) and len(pair) != 2):
            raise InvalidInputError(f"'{name}' is no pair: give (model, guide), or what load_run returns.")
    runs = {name: pair for name, pair in every.items() if isinstance(pair, TrainedPair)}
    check_same_training_data(runs)
    parts = {name: (pair.model, pair.guide) if isinstance(pair, TrainedPair) else pair for name, pair in every.items()}
    check_points(x, all(handles_missing(model) for model, _ in parts.values()))
    check_separate_parameters(parts, x)
    comparison = score_pairs(
        parts,
        x,
        num_samples,
        seed,
        tolerance=tolerance,
        limits=limits,
        transform=transform,
        on_progress=on_progress,
    )
    comparison = replace(comparison, fits={name: run.fit_result for name, run in runs.items()} or None)
    return average_trainings(comparison, trainings)


def _listed(pairs: Mapping[str, Pair | list[Pair]]) -> tuple[dict[str, Pair], dict[str, list[str]]]:
    """Every pair under a name of its own; and of each list the names of its trainings."""
    every: dict[str, Pair] = {}
    trainings: dict[str, list[str]] = {}
    for name, given in pairs.items():
        if not isinstance(given, list):
            every[name] = given
            continue
        if len(given) < 2:
            raise InvalidInputError(f"{name} is a list of {len(given)} trainings: give at least 2, or the pair itself.")
        trainings[name] = [training_name(name, number) for number in range(1, len(given) + 1)]
        every |= dict(zip(trainings[name], given, strict=True))
    return every, trainings


def score_pairs(
    pairs: Mapping[str, tuple[ModelOrGuide, ModelOrGuide]],
    x: Tensor,
    num_samples: int | None = None,
    seed: int = 0,
    *,
    tolerance: float | None = None,
    limits: Limits | None = None,
    transform: Transform | None = None,
    on_progress: Callable[[float], None] | None = None,
    train: Callable[[str], FitResult] | None = None,
    keep_failures: bool = False,
) -> Comparison:
    """The loop of `compare`, for pairs that have passed `check_separate_parameters`.

    `train` is called with the name of each pair before that pair is scored; what it returns becomes one of the `fits`. With
    `keep_failures` a pair that cannot be trained or scored becomes one of the `failed`, and the next one has its turn. Raises
    the error of a pair that stands alone, and `RunError` where all of several fail.
    """
    limits = limits or Limits()
    if tolerance is not None:
        check_tolerance(tolerance)  # before anything is trained
    evidence: dict[str, Evidence] = {}
    fits: dict[str, FitResult] = {}
    failed: dict[str, str] = {}
    for name, (model, guide) in pairs.items():
        try:
            fit = None if train is None else train(name)
            own_seed = derived_seed(seed, zlib.crc32(name.encode()))
            evidence[name] = evaluate(
                model,
                guide,
                x,
                num_samples,
                own_seed,
                tolerance=tolerance,
                max_draws=limits.max_draws,
                max_seconds=limits.max_seconds,
                transform=transform,
                on_progress=on_progress,
            )
        except GroupError:
            raise
        except Exception as error:
            message = failure_message(error)
            if message is None or not keep_failures or len(pairs) == 1:
                raise
            failed[name] = message
        else:
            if fit is not None:
                fits[name] = fit
    if not evidence:
        raise RunError(f"Every pair failed, {'; '.join(f'{name}: {message}' for name, message in failed.items())}")
    return Comparison(evidence, fits or None, failed)


def check_separate_parameters(pairs: Mapping[str, tuple[ModelOrGuide, ModelOrGuide]], x: Tensor) -> None:
    """Refuse two pairs that share parameters, because both train them. They may share a half: one model under two guides."""
    read = {name: {id(p) for p in unconstrained_parameters(x, guide, model)} for name, (model, guide) in pairs.items()}
    in_store = {id(value): name for name, value in pyro.get_param_store().named_parameters()}
    for (name, pair), (other, other_pair) in itertools.combinations(pairs.items(), 2):
        halves = {id(half) for half in pair} & {id(half) for half in other_pair}
        shared = read[name] & read[other]
        if halves or not shared:
            continue
        stored = sorted(in_store[key] for key in shared if key in in_store)
        if stored:
            raise InvalidInputError(
                f"{name} and {other} share a parameter: both name a pyro.param '{stored[0]}', so training one would move the "
                "other. Give each its own name."
            )
        raise InvalidInputError(
            f"{name} and {other} share a parameter, so training one moved the other: build each pair anew, and give "
            "pyro.param statements names of their own."
        )
