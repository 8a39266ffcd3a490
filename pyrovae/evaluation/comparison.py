"""Comparison: what `compare` returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import InvalidInputError
from ..statistics.estimate import Estimate, mean_difference
from ..statistics.trainings import RepeatedEstimate, difference_over_trainings, mean_over_trainings
from ..training import FitResult
from ..utils.export import json_number
from ..utils.notebook import ShownAsHTML
from .result import Evidence

if TYPE_CHECKING:
    from pandas import DataFrame

MEASURE_NAMES = {
    "counting": "a probability (counting measure)",
    "Lebesgue": "a density (Lebesgue measure)",
    "mixed": "a density of some of it and a probability of the rest",
}


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
class Comparison(ShownAsHTML):
    """Evidence of several models on the same points and base measure.

    Attributes:
        evidence: An `Evidence` for each model, by name. For a model that was trained several times it is the mean
            over trainings.
        fits: The `FitResult` of each training, if it is known.
        failed: Why a model has no evidence, by name.
        trainings: The `Evidence` of each training, for models that were trained several times.
    """

    evidence: Mapping[str, Evidence]
    fits: Mapping[str, FitResult] | None = None
    failed: Mapping[str, str] = field(default_factory=dict)
    trainings: Mapping[str, tuple[Evidence, ...]] = field(default_factory=dict)

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
        """Return the mean over points of log p̂_name(x_n) − log p̂_other(x_n), nats.

        It is paired: what makes a point hard for both cancels. So its data error is far below those of the two means.
        """
        a, b = self.evidence[name], self.evidence[other]
        return mean_difference(a.log_likelihood, a.log_likelihood_se, b.log_likelihood, b.log_likelihood_se)

    def mean_over_trainings(self, name: str) -> RepeatedEstimate:
        """Mean of log p̂(x) over points and trainings, with an error for each source of chance."""
        return mean_over_trainings(*self._repeated(name))

    def difference_over_trainings(self, name: str, other: str) -> RepeatedEstimate:
        """As `difference`, with the error over trainings, and an interval of all errors together."""
        return difference_over_trainings(*self._repeated(name), *self._repeated(other))

    def _repeated(self, name: str) -> tuple[Tensor, Tensor]:
        """log p̂(x) and its errors, (trainings, N)."""
        trainings = self.trainings.get(name, (self.evidence[name],))
        values = torch.stack([each.log_likelihood.double() for each in trainings])
        return values, torch.stack([each.log_likelihood_se.double() for each in trainings])

    def table(self) -> "DataFrame":
        """The numbers of each model, a row each, in nats per point: a pandas DataFrame.

        Columns are the keys of `to_dict()["models"]` without lists, and the paired `difference` to the best with its errors.

        Example:
            comparison.table().sort_values("log_likelihood")[["log_likelihood", "log_likelihood_data_se", "reliability"]]
        """
        from pandas import DataFrame

        rows = []
        for name in self.evidence:
            row = {key: value for key, value in self._row(name).items() if not isinstance(value, list)}
            difference = self.difference(name, self.best)
            row |= {
                "difference": difference.value,
                "difference_mc_se": difference.mc_se,
                "difference_data_se": difference.data_se,
            }
            rows.append(row)
        return DataFrame(rows).set_index("name")

    def to_dict(self) -> dict[str, Any]:
        """Everything in full precision, ready for JSON: `models`, an object each, their `differences` to the best, and who `failed`.

        Numbers are in nats per point; a number that does not exist is None.
        """
        return {
            "models": [self._row(name) for name in self.evidence],
            "best": self.best,
            "differences": {
                name: self.difference(name, self.best).to_dict() | self._training_errors(name)
                for name in self.evidence
                if name != self.best
            },
            "failed": dict(self.failed),
        }

    def _training_errors(self, name: str) -> dict[str, Any]:
        """Of the difference to the best; nothing where no model was trained several times."""
        if not self.trainings:
            return {}
        numbers = self.difference_over_trainings(name, self.best).to_dict()
        return {key: numbers[key] for key in ("train_se", "interval_low", "interval_high")}

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
            "log_likelihood_train_se": self.mean_over_trainings(name).train_se if self.trainings else None,
            "trainings": [each.mean_log_likelihood.value for each in self.trainings.get(name, ())],
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
