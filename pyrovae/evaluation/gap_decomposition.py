"""Where the gap between log p(x) and the ELBO comes from: how much is the family's, how much the network's.

log p(x) − L[q_φ] = (log p(x) − L[q*]) + (L[q*] − L[q_φ]): approximation gap + amortisation gap (Cremer, Li & Duvenaud 2018, eq. 5).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

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
from ..statistics.estimate import Estimate
from ..statistics.result import PointwiseResult, Row
from ..utils.progress import shows_progress
from ..utils.provenance import data_hash
from .evaluating import evaluate

ESTIMATORS = ("importance weights of the guide", "importance weights of the refined q*", "annealed importance sampling")


@dataclass(frozen=True, repr=False)
class GapResult(PointwiseResult):
    """What `gap` found, point by point: tensors (N,) on the CPU, nats.

    `elbo` L[q_φ], `refined_elbo` L[q*], and three estimates of log p(x): `weighted` by the guide's importance weights, `refined` by
    those of q*, `annealed` by AIS (None without). Each is a lower bound on log p(x) in expectation, so `log_likelihood` is the
    largest of them: the one that is largest in the mean over points, at every point. (The largest at each point would be too large
    by about the noise of one point, which can be more than the gaps in question; this is so by no more than the noise of a mean.)
    Having been chosen it is, strictly, no bound. `bounds` says all this by name.
    """

    labels: ClassVar[Mapping[str, str]] = {
        "exact": "exact log p(x)",
        "log_likelihood": "log p̂(x), the largest of:",
        "weighted": f"  {ESTIMATORS[0]}",
        "refined": f"  {ESTIMATORS[1]}",
        "annealed": f"  {ESTIMATORS[2]}",
        "refined_elbo": "L[q*], refined per point",
        "elbo": "L[q(z|x)], the guide's ELBO",
        "approximation": "approximation gap",
        "amortisation": "amortisation gap (the network)",
    }

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
    data_hash: str  # of x
    seconds: float
    metadata: dict[str, Any]

    @property
    def bounds(self) -> dict[str, str]:
        """Of each number: a "lower" bound on log p(x) in expectation, or "neither"."""
        lower = ("elbo", "refined_elbo", "weighted", "refined", *(["annealed"] if self.annealed is not None else []))
        return {**dict.fromkeys(lower, "lower"), "log_likelihood": "neither"}

    def __repr__(self) -> str:
        return (
            f"GapResult({len(self)} points: log p̂(x) {self.mean_log_likelihood.value:.3f}, approximation gap "
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
        return self.mean("elbo")

    @property
    def mean_log_likelihood(self) -> Estimate:
        return self.mean("log_likelihood")

    @property
    def mean_approximation(self) -> Estimate:
        return self.mean("approximation")

    @property
    def mean_amortisation(self) -> Estimate:
        return self.mean("amortisation")

    def rows(self) -> list[Row]:
        """From log p(x) down to the ELBO, and last the two gaps."""
        bounds = {**self.bounds, "exact": "exact", "log_likelihood": ""}
        labels = {**self.labels, "approximation": f"approximation gap ({self.family})"}
        return [Row(labels[name], mean, bounds.get(name, "")) for name, mean in self.estimates().items()]

    def summary(self) -> dict[str, Any]:
        """The family of q*, the best estimator, the points."""
        return {"family": self.family, "best": self.best, "data_hash": self.data_hash}

    def datasets(self) -> dict[str, Any]:
        """As `PointwiseResult.datasets`, with the bounds among the attributes."""
        (stats,) = super().datasets().values()
        return {"sample_stats": stats.assign_attrs({f"bound_{name}": bound for name, bound in self.bounds.items()})}


@shows_progress("gap", lambda arguments: (3 if arguments["annealing"] else 2) * len(arguments["x"]))
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
    progress: bool = True,
) -> GapResult:
    """The approximation gap and the amortisation gap of a guide, for every row of x.

    q is refined within `family`, by default the one that the guide's own looks like; `num_samples` draws of the guide and of q* give
    their bounds; AIS, from the guide where it has a density and else from the prior, adds an estimate that neither's shape limits.
    `on_progress` is called with points done, a fraction, of 3 len(x) in all with AIS, of 2 len(x) without; without
    it a bar shows the progress in a terminal or a notebook, unless `progress` is False.

    Raises what `evaluate`, `refine` and `ais` raise.
    """
    check_points(x)
    joint = Joint(model, guide, x)  # first, so that what cannot be refined is rejected before anything is scored
    started = time.perf_counter()
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
        data_hash=data_hash(x),
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
