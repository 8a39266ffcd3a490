"""compare(): who may stand beside whom, and by how much one is better."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..data.transforms import Transform
from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide
from ..pair.parameters import unconstrained_parameters
from ..pair.validation import check_points
from ..statistics.estimate import Estimate, mean_over_points
from ..training import FitResult
from ..utils.export import number
from .evaluating import evaluate
from .result import Evidence

KINDS = {
    "counting": "a probability (counting measure)",
    "Lebesgue": "a density (Lebesgue measure)",
    "mixed": "a density of some of it and a probability of the rest",
}


def compare(
    pairs: Mapping[str, tuple[ModelOrGuide, ModelOrGuide]],
    x: Tensor,
    num_samples: int = 1000,
    seed: int = 0,
    *,
    transform: Transform | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> "Comparison":
    """Score trained pairs, by name, on the same points: `evaluate` for each, then a `Comparison`.

    The k-th pair draws from `seed` + k, k = 0, 1, …, so that the Monte-Carlo errors of two are independent.

    Raises `InvalidInputError` when their base measures differ, or when two share parameters (in Pyro's global store, by name).
    """
    if not pairs:
        raise InvalidInputError("There is nothing to compare: give at least one pair, {'name': (model, guide)}.")
    check_points(x)
    _check_no_shared_parameters(pairs, x)
    return Comparison(
        {
            name: evaluate(model, guide, x, num_samples, seed + place, transform=transform, on_progress=on_progress)
            for place, (name, (model, guide)) in enumerate(pairs.items())
        }
    )


def _check_no_shared_parameters(pairs: Mapping[str, tuple[ModelOrGuide, ModelOrGuide]], x: Tensor) -> None:
    """Two pairs may share a half, one model under two guides; other shared parameters were trained by both."""
    found = {name: {id(p) for p in unconstrained_parameters(x, guide, model)} for name, (model, guide) in pairs.items()}
    for (name, pair), (other, other_pair) in itertools.combinations(pairs.items(), 2):
        halves = {id(half) for half in pair} & {id(half) for half in other_pair}
        if not halves and found[name] & found[other]:
            raise InvalidInputError(
                f"{name} and {other} share a parameter, so training one moved the other: build each pair anew, and give "
                "pyro.param statements names of their own."
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
                    f"{first} gives x {KINDS[reference.base_measure]} and {name} {KINDS[other.base_measure]}: the two have no common "
                    "unit; compare them apart."
                )
            if other.dim != reference.dim:
                raise InvalidInputError(
                    f"{first} observes {reference.dim} numbers of each point and {name} {other.dim}: likelihoods of different "
                    "things cannot be compared; let both observe all of x."
                )

    @property
    def best(self) -> str:
        """The model with the highest mean log p̂(x)."""
        return max(self.evidence, key=lambda name: self.evidence[name].mean_log_likelihood.value)

    def difference(self, name: str, other: str) -> Estimate:
        """Mean over points of log p̂_name(x_n) − log p̂_other(x_n), nats. Paired: what makes a point hard for both cancels,
        so its data error is far below those of the two means."""
        a, b = self.evidence[name], self.evidence[other]
        se = (a.log_likelihood_se.square() + b.log_likelihood_se.square()).sqrt()
        return mean_over_points(a.log_likelihood - b.log_likelihood, se)

    def to_dict(self) -> dict[str, Any]:
        """Everything in full precision, ready for JSON: `models`, an object each, their `differences` to the best, and who `failed`.

        Numbers are in nats per point; a number that does not exist is None.
        """
        return {
            "models": [self._row(name) for name in self.evidence],
            "best": self.best,
            "differences": {
                name: {key: number(value) for key, value in self.difference(name, self.best)._asdict().items()}
                for name in self.evidence
                if name != self.best
            },
            "failed": dict(self.failed),
        }

    def _row(self, name: str) -> dict[str, Any]:
        evidence = self.evidence[name]
        fit = (self.fits or {}).get(name)
        exact, estimate = evidence.mean_exact_log_likelihood, evidence.mean_log_likelihood
        train_seconds = fit.seconds if fit else 0.0
        row = {
            "name": name,
            "parameters": evidence.parameters,
            "latent": evidence.latent,
            "exact_log_likelihood": None if exact is None else exact.value,
            "log_likelihood": estimate.value,
            "log_likelihood_mc_se": estimate.mc_se,
            "log_likelihood_data_se": estimate.data_se,
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
            "bound_curve": [
                {"num_samples": K, **{key: number(value) for key, value in bound._asdict().items()}}
                for K, bound in evidence.mean_bound_curve.items()
            ],
            "num_samples": evidence.num_samples,
            "total_seconds": train_seconds + evidence.seconds,
            "train_seconds": train_seconds,
            "seconds": evidence.seconds,
            "objective": fit.objective if fit else None,
            "losses": fit.losses if fit else [],
        }
        return {key: number(value) for key, value in row.items()}
