"""choose(): train a pair under several values of an option, and compare held-out log p(x)."""

import contextlib
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import pyro
import torch
from torch import Tensor

from ..data.stochastic import StochasticData
from ..data.transforms import Transform
from ..errors import InvalidInputError, RunError, check_int, did_you_mean, failure_message
from ..estimators.exact import exact_log_likelihood
from ..estimators.mode_sampling import check_tolerance
from ..pair.execution import ModelOrGuide, evaluation_mode, modules
from ..pair.parameters import unconstrained_parameters
from ..pair.structure import inspect_pair
from ..statistics.estimate import Estimate, mean_over_points
from ..statistics.paired_tests import check_level
from ..training import fit
from ..training.arguments import TrainingSettings, recipe_arguments
from ..utils.provenance import metadata
from ..utils.random import derived_seed, fork_rng, random_rows
from .base_measure import check_base_measure
from .choice import Candidate, Choice, label_of
from .evaluating import GUIDE_DRAWS, TOLERANCE, evaluate
from .information_criteria import bic, num_free_parameters
from .methods import MethodResult, exact_result
from .splits import Splitter, fold_splits, random_split

Points = Tensor | StochasticData


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
) -> Choice:
    """Train a pair under each value of an option, and compare log p(x) of points that were not trained on.

    All candidates are trained on the same points and scored on the same others, so that differences are paired. A random
    part of x is held out; or each of the `folds` in turn, so that the pair of its fold scores every point once. Folds share
    training points, so that errors with folds are somewhat too small (Bengio & Grandvalet 2004).

    The mean of the best value is too high, because it was chosen for being high. Score the chosen pair on points that had no
    part in the choice.

    Args:
        build: Makes a pair: `build(dim, name=value)` returns (model, guide). What `load` returns is one.
        over: The option and its values: `{"latent": [2, 4, 8]}`.
        x: The points to choose on (N, D). These are training points: test points are for the pair that was chosen.
        num_samples: As of `evaluate`.
        seed: Of the split, of training and of scoring.
        tolerance: As of `evaluate`.
        validation_fraction: The share of the points to hold out, where there are no folds.
        folds: How many folds, or an object with `split(x)`, such as scikit-learn's `KFold(5)`.
        level: The probability that the best set holds the best of the candidates.
        transform: What made x out of pixels.
        training: Arguments of `fit`, `steps` among them; if not given, those of the file's TRAINING_DEFAULTS.
        on_candidate: Called with the name of each value before it is trained.

    Returns:
        A `Choice`. Its BIC is of the training points; with folds, of all points after one more fit to all of them.

    Raises:
        InvalidInputError: The option has no values, or one twice; a pair cannot be scored on these points.
        RunError: No value could be trained and scored.

    References:
        Schwarz 1978, Estimating the dimension of a model; Minka 2000, Automatic choice of dimensionality for PCA.

    Example:
        choice = pyrovae.choose(pyrovae.load("gmm"), {"components": range(1, 11)}, data.train, folds=5)
        choice.best, choice.best_set, choice.difference("3", choice.best)
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
    work = _Work(build, x, splits, folds is not None, dict(recipe), scoring, seed)
    for value in values.values():
        work.check({option: value})
    candidates: dict[str, Candidate] = {}
    failed: dict[str, str] = {}
    for name, value in values.items():
        if on_candidate:
            on_candidate(name)
        try:
            candidates[name] = work.candidate(option, name, value)
        except Exception as error:
            message = failure_message(error)
            if message is None:
                raise
            failed[name] = message
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


@dataclass(frozen=True)
class _Work:
    """What all candidates share: the points and their splits, and how pairs are made, trained and scored."""

    build: Callable[..., tuple[ModelOrGuide, ModelOrGuide]]
    x: Points
    splits: list[tuple[Tensor, Tensor]]
    has_folds: bool
    recipe: dict[str, Any]
    scoring: dict[str, Any]
    seed: int

    def check(self, options: dict[str, Any]) -> None:
        """Raise `InvalidInputError` for a pair that cannot be scored, before any is trained."""
        with self._built(options) as (model, guide):
            structure = inspect_pair(model, guide, self.values(torch.arange(min(len(self.x), 256))))
        if self.scoring["transform"] is not None:
            check_base_measure(structure, self.scoring["transform"])

    def candidate(self, option: str, name: str, value: Any) -> Candidate:
        """One value, trained and scored on every split."""
        seed = derived_seed(self.seed, zlib.crc32(f"{option}={name}".encode()))
        held_out, trained, seconds = [], [], 0.0
        exact: Tensor | None = None
        for rows, held in self.splits:
            with self._fitted({option: value}, rows) as (model, guide, train_seconds):
                started = time.perf_counter()
                num_parameters = sum(p.numel() for p in unconstrained_parameters(self.values(held[:2]), guide, model))
                num_free = num_free_parameters(model)
                held_out.append(self._score(model, guide, held, seed))
                exact = self._exact(model, rows)
                if exact is None:  # of as many points as are held out: more would only cost time
                    some = rows[random_rows(rows, len(held), self.seed)]
                    scores = self._score(model, guide, some, derived_seed(seed, 1))
                    trained.append(mean_over_points(scores.log_likelihood, scores.log_likelihood_se))
                else:
                    trained.append(mean_over_points(exact))
            seconds += train_seconds + time.perf_counter() - started
        if self.has_folds and num_free is not None:
            every = torch.arange(len(self.x))
            with self._fitted({option: value}, every) as (model, _, train_seconds):
                exact = self._exact(model, every)
            seconds += train_seconds
        order = torch.cat([held for _, held in self.splits]).argsort()
        return Candidate(
            value,
            log_likelihood=torch.cat([each.log_likelihood for each in held_out])[order],
            log_likelihood_se=torch.cat([each.log_likelihood_se for each in held_out])[order],
            shortfall=torch.cat([each.shortfall for each in held_out])[order],
            method=", ".join(dict.fromkeys(each.method for each in held_out)),
            train_log_likelihood=_average(trained),
            num_parameters=num_parameters,
            num_free_parameters=num_free,
            bic=None if exact is None or num_free is None else bic(exact, num_free),
            seconds=seconds,
        )

    def _score(self, model: ModelOrGuide, guide: ModelOrGuide, rows: Tensor, seed: int) -> MethodResult:
        """log p̂(x) of those points. The exact value needs no draws, unless the K-sample bound is asked for."""
        x = self.values(rows)
        exact = None if self.scoring["tolerance"] is None else self._exact(model, rows)
        if exact is not None:
            inspect_pair(model, guide, x)
            return exact_result(exact)
        evidence = evaluate(model, guide, x, seed=seed, **self.scoring)
        values = (evidence.log_likelihood, evidence.log_likelihood_se, evidence.num_draws, evidence.shortfall)
        return MethodResult(", ".join(dict.fromkeys(evidence.method)), *values)

    def minka_latent(self, options: dict[str, Any]) -> int | None:
        """Minka's choice for the points that the BIC is of; None for a model without such a function, or too few points."""
        rows = torch.arange(len(self.x)) if self.has_folds else self.splits[0][0]
        with self._built(options) as (model, _):
            function = getattr(model, "minka_latent", None)
        x = self.values(rows)
        return None if function is None or len(x) < x.shape[1] else function(x)

    def _exact(self, model: ModelOrGuide, rows: Tensor) -> Tensor | None:
        with evaluation_mode(model), torch.no_grad():
            return exact_log_likelihood(model, self.values(rows))

    def values(self, rows: Tensor) -> Tensor:
        """Those points; of points that are drawn anew at every use, one draw that is the same for all candidates."""
        with fork_rng(self.x.device, self.seed):
            return self.x[rows.to(self.x.device)]

    @contextlib.contextmanager
    def _built(self, options: dict[str, Any]) -> Iterator[tuple[ModelOrGuide, ModelOrGuide]]:
        """A new pair. What it keeps in Pyro's global store is gone afterwards, so that candidates share nothing."""
        with pyro.get_param_store().scope():
            with fork_rng(self.x.device, self.seed):
                model, guide = self.build(self.x[:1].shape[1], **options)
            for module in modules(model, guide):
                module.to(self.x.device)
            yield model, guide

    @contextlib.contextmanager
    def _fitted(self, options: dict[str, Any], rows: Tensor) -> Iterator[tuple[ModelOrGuide, ModelOrGuide, float]]:
        """A new pair that is trained on those points, and the seconds that it took."""
        rows = rows.to(self.x.device)
        points = (
            StochasticData(self.x.pixels[rows], self.x.transform)
            if isinstance(self.x, StochasticData)
            else self.x[rows]
        )
        with self._built(options) as (model, guide):
            arguments = {"seed": self.seed, **recipe_arguments(self.recipe, len(rows))}
            yield model, guide, fit(model, guide, points, **arguments).seconds


def _average(means: list[Estimate]) -> Estimate:
    """The mean over folds. Its data error is that of one fold, because folds share their training points."""
    count = len(means)
    return Estimate(
        sum(mean.value for mean in means) / count,
        sum(mean.mc_se**2 for mean in means) ** 0.5 / count,
        sum(mean.data_se for mean in means) / count,
    )
