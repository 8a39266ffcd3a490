"""Where the gap between log p(x) and the ELBO comes from: how much is the family's, how much the network's.

log p(x) − L[q_φ] = (log p(x) − L[q*]) + (L[q*] − L[q_φ]): approximation gap + amortisation gap (Cremer, Li & Duvenaud 2018, eq. 5).
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..estimators.annealing import ais
from ..pair.execution import ModelOrGuide
from ..pair.sites import density_sites
from ..pair.validation import check_points
from ..posterior.joint_density import Joint
from ..posterior.optimise import RefinementSettings
from ..posterior.refinement import refine
from ..posterior.variational_families import VariationalFamily
from ..statistics.estimate import Estimate, mean_over_points
from ..utils.provenance import data_hash
from .evaluating import evaluate

ESTIMATORS = ("importance weights of the guide", "importance weights of the refined q*", "annealed importance sampling")


@dataclass(frozen=True, repr=False)
class GapResult:
    """What `gap` found, point by point: tensors (N,) on the CPU, nats.

    `elbo` L[q_φ], `refined_elbo` L[q*], and three estimates of log p(x): `weighted` by the guide's importance weights, `refined` by
    those of q*, `annealed` by AIS (None without). Each is a lower bound on log p(x) in expectation, so `log_likelihood` is the
    largest of them: the one that is largest in the mean over points, at every point. (The largest at each point would be too large
    by about the noise of one point, which can be more than the gaps in question; this is so by no more than the noise of a mean.)
    Having been chosen it is, strictly, no bound. `bounds` says all this by name.
    """

    elbo: Tensor
    elbo_se: Tensor
    refined_elbo: Tensor
    refined_elbo_se: Tensor
    weighted: Tensor
    weighted_se: Tensor
    refined: Tensor
    refined_se: Tensor
    annealed: Tensor | None
    annealed_se: Tensor | None
    exact: Tensor | None  # the model's own log_prob, where it has one
    family: str
    points: str  # fingerprint of x
    seconds: float
    metadata: dict[str, Any]

    @property
    def bounds(self) -> dict[str, str]:
        """Of each number: a "lower" bound on log p(x) in expectation, or "neither"."""
        lower = ("elbo", "refined_elbo", "weighted", "refined", *(["annealed"] if self.annealed is not None else []))
        return {**dict.fromkeys(lower, "lower"), "log_likelihood": "neither"}

    def __len__(self) -> int:
        return len(self.elbo)

    def __repr__(self) -> str:
        return (
            f"Gaps({len(self)} points: log p̂(x) {self.mean_log_likelihood.value:.3f}, approximation gap "
            f"{self.mean_approximation.value:.3f} ({self.family}), amortisation gap {self.mean_amortisation.value:.3f})"
        )

    def _estimates(self) -> tuple[Tensor, Tensor]:
        """The estimates of log p(x) there are, and their errors: (2 or 3, N)."""
        values, errors = [self.weighted, self.refined], [self.weighted_se, self.refined_se]
        if self.annealed is not None and self.annealed_se is not None:
            values.append(self.annealed)
            errors.append(self.annealed_se)
        return torch.stack(values), torch.stack(errors)

    @property
    def best(self) -> str:
        """Which of `ESTIMATORS` is the largest in the mean over points."""
        return ESTIMATORS[self._best]

    @property
    def _best(self) -> int:
        return int(self._estimates()[0].mean(1).argmax())

    @property
    def log_likelihood(self) -> Tensor:
        """log p̂(x), by the best of the estimators. (N,)"""
        return self._estimates()[0][self._best]

    @property
    def log_likelihood_se(self) -> Tensor:
        return self._estimates()[1][self._best]

    @property
    def approximation(self) -> Tensor:
        """log p̂(x) − L[q*]: what the best of the family cannot reach."""
        return self.log_likelihood - self.refined_elbo

    @property
    def approximation_se(self) -> Tensor:
        return (self.log_likelihood_se.square() + self.refined_elbo_se.square()).sqrt()

    @property
    def amortisation(self) -> Tensor:
        """L[q*] − L[q_φ]: what the network loses of it. Below 0 where the guide's own family is the wider one, or where q* has not
        been found."""
        return self.refined_elbo - self.elbo

    @property
    def amortisation_se(self) -> Tensor:
        return (self.refined_elbo_se.square() + self.elbo_se.square()).sqrt()

    @property
    def mean_elbo(self) -> Estimate:
        return mean_over_points(self.elbo, self.elbo_se)

    @property
    def mean_refined_elbo(self) -> Estimate:
        return mean_over_points(self.refined_elbo, self.refined_elbo_se)

    @property
    def mean_weighted(self) -> Estimate:
        return mean_over_points(self.weighted, self.weighted_se)

    @property
    def mean_refined(self) -> Estimate:
        return mean_over_points(self.refined, self.refined_se)

    @property
    def mean_annealed(self) -> Estimate | None:
        return None if self.annealed is None else mean_over_points(self.annealed, self.annealed_se)

    @property
    def mean_log_likelihood(self) -> Estimate:
        return mean_over_points(self.log_likelihood, self.log_likelihood_se)

    @property
    def mean_exact(self) -> Estimate | None:
        return None if self.exact is None else mean_over_points(self.exact)

    @property
    def mean_approximation(self) -> Estimate:
        return mean_over_points(self.approximation, self.approximation_se)

    @property
    def mean_amortisation(self) -> Estimate:
        return mean_over_points(self.amortisation, self.amortisation_se)

    def per_point(self) -> dict[str, Tensor]:
        """Every number of every point, by name."""
        names = [
            *("elbo", "elbo_se", "refined_elbo", "refined_elbo_se", "weighted", "weighted_se", "refined", "refined_se"),
            *("annealed", "annealed_se", "exact", "log_likelihood", "log_likelihood_se"),
            *("approximation", "approximation_se", "amortisation", "amortisation_se"),
        ]
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: means with their two errors, the points' own numbers, which bound is which, the card."""
        means = {
            name: getattr(self, f"mean_{name}")
            for name in ("elbo", "refined_elbo", "weighted", "refined", "annealed", "exact", "log_likelihood")
        } | {"approximation": self.mean_approximation, "amortisation": self.mean_amortisation}
        return {
            "family": self.family,
            "means": {
                name: {key: _number(value) for key, value in mean._asdict().items()}
                for name, mean in means.items()
                if mean is not None
            },
            "bounds": self.bounds,
            "best": self.best,
            "per_point": {
                name: [_number(number) for number in value.tolist()] for name, value in self.per_point().items()
            },
            "seconds": self.seconds,
            "fingerprint": self.points,
            "metadata": self.metadata,
        }

    def to_arviz(self) -> Any:
        """An `arviz.InferenceData`: per-point numbers in `sample_stats` over the dimension `point`, the card in its attributes."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # 0.23 announces 1.0 at every import
            import arviz
        import xarray

        attributes = {
            key: value if isinstance(value, int | float | str) and not isinstance(value, bool) else str(value)
            for key, value in self.metadata.items()
        }
        bounds = {f"bound_{name}": bound for name, bound in self.bounds.items()}
        stats = xarray.Dataset(
            {
                **{name: ("point", value.numpy()) for name, value in self.per_point().items()},
            },
            coords={"point": range(len(self))},
            attrs={**attributes, **bounds, "family": self.family, "best": self.best, "fingerprint": self.points},
        )
        return arviz.InferenceData(sample_stats=stats)


def gap(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    family: VariationalFamily | None = None,
    num_samples: int = 5000,
    seed: int = 0,
    *,
    annealing: bool = True,
    num_chains: int = 16,
    num_temperatures: int = 1000,
    protocol: RefinementSettings | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> GapResult:
    """The approximation gap and the amortisation gap of a guide, for every row of x.

    q is refined within `family`, by default the one that the guide's own looks like; `num_samples` draws of the guide and of q* give
    their bounds; AIS, from the guide where it has a density and else from the prior, adds an estimate that neither's shape limits.
    `on_progress` is called with points done, a fraction, of 3 len(x) in all with AIS, of 2 len(x) without.

    Raises what `evaluate`, `refine` and `ais` raise.
    """
    check_points(x)
    joint, started = (
        Joint(model, guide, x),
        time.perf_counter(),
    )  # refuses what cannot be refined before anything is scored
    advance = on_progress or (lambda points: None)
    weighted = evaluate(model, guide, x, num_samples, seed, on_progress=advance)
    refined = refine(model, guide, x, family, num_samples, seed + 1, protocol=protocol, on_progress=advance)
    annealed = None
    if annealing:
        helpers = any(site["infer"].get("is_auxiliary") for site in density_sites(joint.structure.guide_trace))
        annealed = ais(
            model,
            guide,
            x,
            num_chains,
            num_temperatures,
            seed + 2,
            start="prior" if helpers else "guide",
            on_progress=advance,
        )
    return GapResult(
        elbo=weighted.elbo,
        elbo_se=weighted.elbo_se,
        refined_elbo=refined.elbo,
        refined_elbo_se=refined.elbo_se,
        weighted=weighted.log_likelihood,
        weighted_se=weighted.log_likelihood_se,
        refined=refined.log_likelihood,
        refined_se=refined.log_likelihood_se,
        annealed=None if annealed is None else annealed.log_likelihood,
        annealed_se=None if annealed is None else annealed.log_likelihood_se,
        exact=weighted.exact_log_likelihood,
        family=refined.metadata["family"],
        points=data_hash(x),
        seconds=time.perf_counter() - started,
        metadata={
            **refined.metadata,
            "family_start": refined.metadata["start"],
            "seed": seed,
            **(
                {}
                if annealed is None
                else {f"ais_{key}": annealed.metadata[key] for key in ("num_chains", "num_temperatures", "start")}
            ),
        },
    )


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if value == value and abs(value) != float("inf") else None
