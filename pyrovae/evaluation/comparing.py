"""compare(): who may stand beside whom, and by how much one is better."""

import itertools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyro
from torch import Tensor

from ..data.transforms import Transform
from ..errors import InvalidInputError, RunError, failure_message
from ..pair.execution import ModelOrGuide
from ..pair.parameters import unconstrained_parameters
from ..pair.validation import check_points
from ..statistics.estimate import Estimate, mean_difference
from ..training import FitResult
from ..utils.export import json_number
from ..utils.random import derived_seed
from .evaluating import evaluate
from .result import Evidence
from .trained_pair import TrainedPair, check_same_training_data

MEASURE_NAMES = {
    "counting": "a probability (counting measure)",
    "Lebesgue": "a density (Lebesgue measure)",
    "mixed": "a density of some of it and a probability of the rest",
}


def compare(
    pairs: Mapping[str, tuple[ModelOrGuide, ModelOrGuide] | TrainedPair],
    x: Tensor,
    num_samples: int | None = None,
    seed: int = 0,
    *,
    tolerance: float | None = None,
    transform: Transform | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> "Comparison":
    """Score trained pairs, by name, on the same points: `evaluate` for each, then a `Comparison`.

    A pair is a tuple (model, guide), or a run that `load_run` has read. Runs must have been trained on the same points.
    `num_samples` and `tolerance` are as of `evaluate`. Each pair draws from a seed that follows from `seed` and its name. So the
    Monte-Carlo errors of two are independent, and a pair's number does not depend on its place in the list.

    Raises `InvalidInputError` when their base measures differ, when two share parameters (in Pyro's global store, by name), or
    when two runs were trained on different points.

    Example:
        runs = {name: pyrovae.load_run(name) for name in ("runs/a", "runs/b")}
        comparison = pyrovae.compare({**runs, "ppca": (model, guide)}, data.test, transform=data.transform)
        comparison.difference("runs/a", "runs/b")
    """
    if not pairs:
        raise InvalidInputError("There is nothing to compare: give at least one pair, {'name': (model, guide)}.")
    check_points(x)
    runs = {name: pair for name, pair in pairs.items() if isinstance(pair, TrainedPair)}
    check_same_training_data(runs)
    parts = {name: (pair.model, pair.guide) if isinstance(pair, TrainedPair) else pair for name, pair in pairs.items()}
    check_separate_parameters(parts, x)
    comparison = score_pairs(
        parts, x, num_samples, seed, tolerance=tolerance, transform=transform, on_progress=on_progress
    )
    return replace(comparison, fits={name: run.fit_result for name, run in runs.items()} or None)


def score_pairs(
    pairs: Mapping[str, tuple[ModelOrGuide, ModelOrGuide]],
    x: Tensor,
    num_samples: int | None = None,
    seed: int = 0,
    *,
    tolerance: float | None = None,
    transform: Transform | None = None,
    on_progress: Callable[[float], None] | None = None,
    train: Callable[[str], FitResult] | None = None,
    keep_failures: bool = False,
) -> "Comparison":
    """The loop of `compare`, for pairs that have passed `check_separate_parameters`.

    `train` is called with the name of each pair before that pair is scored; what it returns becomes one of the `fits`. With
    `keep_failures` a pair that cannot be trained or scored becomes one of the `failed`, and the next one has its turn. Raises
    the error of a pair that stands alone, and `RunError` where all of several fail.
    """
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
                transform=transform,
                on_progress=on_progress,
            )
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


def check_same_dim(dims: Mapping[str, int]) -> None:
    """Refuse pairs that observe different numbers of values of each point; `dims` has that number by the pair's name."""
    (first, reference), *others = dims.items()
    for name, dim in others:
        if dim != reference:
            raise InvalidInputError(
                f"{first} observes {reference} numbers of each point and {name} {dim}: likelihoods of different things cannot "
                "be compared; let both observe all of x."
            )


@dataclass(frozen=True)
class Comparison:
    """Evidence of several models on the same points and base measure. `fits` are their trainings, where known; `failed` those
    that were to stand here and have no evidence, with a sentence each that says why."""

    evidence: Mapping[str, Evidence]
    fits: Mapping[str, FitResult] | None = None
    failed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (first, reference), *others = self.evidence.items()
        for name, other in others:
            if other.data_hash != reference.data_hash:
                raise InvalidInputError(
                    f"{first} and {name} were scored on different points: evaluate both on the same held-out x."
                )
            if other.base_measure != reference.base_measure:
                raise InvalidInputError(
                    f"{first} gives x {MEASURE_NAMES[reference.base_measure]} and {name} {MEASURE_NAMES[other.base_measure]}: the two have no common "
                    "unit; compare them apart."
                )
            check_same_dim({first: reference.dim, name: other.dim})

    @property
    def best(self) -> str:
        """The model with the highest mean log p̂(x)."""
        return max(self.evidence, key=lambda name: self.evidence[name].mean_log_likelihood.value)

    def difference(self, name: str, other: str) -> Estimate:
        """Mean over points of log p̂_name(x_n) − log p̂_other(x_n), nats. Paired: what makes a point hard for both cancels,
        so its data error is far below those of the two means."""
        a, b = self.evidence[name], self.evidence[other]
        return mean_difference(a.log_likelihood, a.log_likelihood_se, b.log_likelihood, b.log_likelihood_se)

    def to_dict(self) -> dict[str, Any]:
        """Everything in full precision, ready for JSON: `models`, an object each, their `differences` to the best, and who `failed`.

        Numbers are in nats per point; a number that does not exist is None.
        """
        return {
            "models": [self._row(name) for name in self.evidence],
            "best": self.best,
            "differences": {
                name: self.difference(name, self.best).to_dict() for name in self.evidence if name != self.best
            },
            "failed": dict(self.failed),
        }

    def _row(self, name: str) -> dict[str, Any]:
        evidence = self.evidence[name]
        fit = (self.fits or {}).get(name)
        exact, estimate = evidence.mean_exact_log_likelihood, evidence.mean_log_likelihood
        lost = None if evidence.bound_error is None else evidence.mean("bound_error")
        train_seconds = fit.seconds if fit else 0.0
        row = {
            "name": name,
            "parameters": evidence.parameters,
            "latent": evidence.latent,
            "exact_log_likelihood": None if exact is None else exact.value,
            "log_likelihood": estimate.value,
            "log_likelihood_mc_se": estimate.mc_se,
            "log_likelihood_data_se": estimate.data_se,
            "method": ", ".join(dict.fromkeys(evidence.method)),
            "num_draws": float(evidence.num_draws.double().mean()),
            "tolerance": evidence.tolerance,
            "reached_fraction": float(evidence.reached.double().mean()),
            "reliable_fraction": float(evidence.reliable.double().mean()),
            "reliability": evidence.reliability,
            "bound": evidence.mean("bound").value,
            "bound_mc_se": evidence.mean("bound").mc_se,
            "bound_error": None if lost is None else lost.value,
            "bound_error_mc_se": None if lost is None else lost.mc_se,
            "log_likelihood_jackknife": evidence.mean_log_likelihood_jackknife.value,
            "elbo": evidence.mean_elbo.value,
            "elbo_mc_se": evidence.mean_elbo.mc_se,
            "gap": evidence.mean_gap.value,
            "gap_mc_se": evidence.mean_gap.mc_se,
            "gap_data_se": evidence.mean_gap.data_se,
            "bits_per_dim": evidence.bits_per_dim,
            "ess": float(evidence.ess.double().mean()),
            "ess_min": float(evidence.ess.min()),
            "pareto_k_median": float(evidence.pareto_k.median()),
            "pareto_k_max": float(evidence.pareto_k.max()),
            "pareto_k_threshold": evidence.pareto_k_threshold,
            "high_pareto_k_fraction": None if evidence.deterministic_guide else evidence.high_pareto_k_fraction,
            "reliability_message": evidence.reliability_message,
            "bound_curve": evidence.bound_curve_rows(),
            "num_samples": evidence.num_samples,
            "total_seconds": train_seconds + evidence.seconds,
            "train_seconds": train_seconds,
            "seconds": evidence.seconds,
            "objective": fit.objective if fit else None,
            "losses": fit.losses if fit else [],
        }
        return {key: json_number(value) for key, value in row.items()}
