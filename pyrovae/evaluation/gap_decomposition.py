"""Where the gap between log p(x) and the ELBO comes from: how much is the family's, how much the network's.

log p(x) − L[q_φ] = (log p(x) − L[q*]) + (L[q*] − L[q_φ]): approximation gap + amortisation gap (Cremer, Li & Duvenaud 2018, eq. 5).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..data.transforms import Transform
from ..estimators.annealing import AISResult, ais
from ..pair.execution import ModelOrGuide
from ..pair.validation import check_points, handles_missing
from ..posterior.joint_density import Joint
from ..posterior.laplace_limits import why_not_laplace
from ..posterior.optimise import RefinementSettings
from ..posterior.refinement import RefinementResult, refine
from ..posterior.starts import choose_start_name
from ..posterior.variational_families import VariationalFamily
from ..statistics.estimate import Estimate
from ..statistics.reliability import JudgedResult
from ..statistics.result import Row
from ..utils.progress import shows_progress
from ..utils.provenance import data_hash
from .base_measure import in_source_units, log_unit_jacobian_of
from .evaluating import TOLERANCE, evaluate
from .methods import IMPORTANCE_SAMPLING
from .result import Evidence

Estimator = Evidence | RefinementResult | AISResult
METHODS = {
    "exact": "the model's own log p(x)",
    "laplace": "importance sampling about the modes",
    "importance_sampling": "importance weights of the guide",
    "local_vi": "importance weights of the refined q*",
    "ais": "annealed importance sampling",
}


@dataclass(frozen=True, repr=False)
class GapResult(JudgedResult):
    """What `gap` found, point by point: tensors (N,) on the CPU, nats.

    `elbo` is L[q_φ], and `refined_elbo` is L[q*]. Three numbers are lower bounds on log p(x) in expectation. `weighted` is by the
    guide's importance weights, `refined` by those of q*, and `annealed` by AIS (None without). `log_likelihood` is log p̂(x) by `method`.
    It is exact where the model knows it. Where the modes of p(z|x) can be searched, it is importance sampling about them. Else it
    is the surest of the bounds. The surest
    is the reliable one with the least standard error, or the largest where none is reliable. `reliability` is that of
    `log_likelihood`, and `bounds` says which number bounds log p(x).
    """

    labels: ClassVar[Mapping[str, str]] = {
        "exact": "exact log p(x)",
        "log_likelihood": "log p̂(x)",
        "weighted": f"  {METHODS['importance_sampling']}",
        "refined": f"  {METHODS['local_vi']}",
        "annealed": f"  {METHODS['ais']}",
        "refined_elbo": "L[q*], refined per point",
        "elbo": "L[q(z|x)], the guide's ELBO",
        "approximation": "approximation gap",
        "amortisation": "amortisation gap (the network)",
    }
    other_values: ClassVar[tuple[str, ...]] = ("shortfall",)

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
    log_likelihood: Tensor
    log_likelihood_se: Tensor
    shortfall: Tensor  # by how much log p̂(x) may be too low, as far as draws show: 0 where it is reliable
    method: tuple[str, ...]  # of each point, of `METHODS`
    method_message: str  # what the method says of its reliability
    family: str
    data_hash: str  # of x
    seconds: float
    metadata: dict[str, Any]

    @property
    def bounds(self) -> dict[str, str]:
        """Of each number: a "lower" bound on log p(x) in expectation, or "neither"."""
        lower = ("elbo", "refined_elbo", "weighted", "refined", *(["annealed"] if self.annealed is not None else []))
        # The surest of several bounds has been chosen by its own draws, and is strictly no bound.
        chosen = (
            "lower"
            if set(self.method) <= {"laplace", "ais"} and self.log_likelihood is not self.annealed
            else "neither"
        )
        return {**dict.fromkeys(lower, "lower"), "log_likelihood": chosen}

    def __repr__(self) -> str:
        return (
            f"GapResult({len(self)} points: log p̂(x) {self.mean_log_likelihood.value:.3f}, approximation gap "
            f"{self.mean_approximation.value:.3f} ({self.family}), amortisation gap {self.mean_amortisation.value:.3f})"
        )

    @property
    def reliability_message(self) -> str:
        """Whether log p̂(x), and so the gaps, can be relied on."""
        return self.method_message

    @property
    def approximation(self) -> Tensor:
        """log p̂(x) − L[q*]: what the best of the family cannot reach."""
        return self.log_likelihood - self.refined_elbo

    @property
    def approximation_se(self) -> Tensor:
        return (self.log_likelihood_se.square() + self.refined_elbo_se.square()).sqrt()

    @property
    def amortisation(self) -> Tensor:
        """The amortisation gap L[q*] − L[q_φ]: what the network loses.

        It is below 0 where the guide's own family is the wider one, or where q* has not been found.
        """
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
        bounds = {**self.bounds, "exact": "exact"}
        by = ", ".join(METHODS[method] for method in dict.fromkeys(self.method))
        labels = {
            **self.labels,
            "log_likelihood": f"log p̂(x), {by}",
            "approximation": f"approximation gap ({self.family})",
        }
        kinds = {name: "" if bound == "neither" else bound for name, bound in bounds.items()}
        return [Row(labels[name], mean, kinds.get(name, "")) for name, mean in self.estimates().items()]

    def summary(self) -> dict[str, Any]:
        """The family of q*, the methods, the points, and what can be relied on."""
        methods = ", ".join(dict.fromkeys(self.method))
        return {"family": self.family, "methods": methods, "data_hash": self.data_hash, **super().summary()}

    def datasets(self) -> dict[str, Any]:
        """As `PointwiseResult.datasets`, with the bounds among the attributes."""
        (stats,) = super().datasets().values()
        return {"sample_stats": stats.assign_attrs({f"bound_{name}": bound for name, bound in self.bounds.items()})}


@shows_progress("gap", lambda arguments: _passes(arguments) * len(arguments["x"]))
def gap(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    family: VariationalFamily | None = None,
    num_samples: int = 5000,
    seed: int = 0,
    *,
    start: str | None = None,
    annealing: bool | None = None,
    num_chains: int = 16,
    num_temperatures: int | None = None,
    protocol: RefinementSettings | None = None,
    transform: Transform | None = None,
    on_progress: Callable[[float], None] | None = None,
    progress: bool = True,
) -> GapResult:
    """Split the gap between log p(x) and the ELBO of every row of x into approximation gap and amortisation gap.

    log p(x) − L[q_φ] = (log p(x) − L[q*]) + (L[q*] − L[q_φ]), where q* is the best q of the family for each point.
    log p̂(x) is that of `evaluate`: exact, or importance sampling about the modes of p(z|x) to 0.05 nats. Where a
    pair has neither, it is the most reliable of three lower bounds.

    Args:
        model: The model, a function of x.
        guide: The guide, a function of x.
        x: The points (N, ...), on the device and in the type of the pair's parameters.
        family: The family of q*. Default: the one that resembles the guide's own.
        num_samples: Draws of the guide and of q* for each point.
        seed: The same seed gives the same numbers.
        start: Where q* and the chains begin: "posterior", "guide" or "prior", as for `refine` and `ais`.
        annealing: Whether AIS adds an estimate that the shape of neither q limits. Default: only where there is
            nothing better.
        num_chains: As for `ais`.
        num_temperatures: As for `ais`.
        protocol: Settings of the optimisation, as for `refine`.
        transform: The transform of the data, as for `evaluate`: the numbers then have the units of the source.
        on_progress: Called with points done, a fraction: of 2 len(x) in all, and of 3 len(x) with AIS.
        progress: Whether to show a bar in a terminal or a notebook, if `on_progress` is not given.

    Returns:
        A `GapResult`, in nats.

    Raises:
        InvalidInputError: `evaluate`, `refine` or `ais` raises it.
        NonFiniteError: `evaluate`, `refine` or `ais` raises it.

    References:
        Cremer, Li & Duvenaud (2018). Inference suboptimality in variational autoencoders. Equation 5.

    Example:
        >>> import pyrovae, torch
        >>> model, guide = pyrovae.load("ppca")(3, latent=1)
        >>> result = pyrovae.gap(model, guide, torch.randn(2, 3), num_samples=50)
        >>> result.amortisation.shape
        torch.Size([2])
    """
    check_points(x, handles_missing(model))
    Joint(model, guide, x)  # first, so that what cannot be refined is rejected before anything is scored
    choose_start_name(model, guide, x, start)
    started = time.perf_counter()
    advance = on_progress or (lambda points: None)
    scored = evaluate(model, guide, x, num_samples, seed, tolerance=TOLERANCE, transform=transform, on_progress=advance)
    jacobian = log_unit_jacobian_of(transform, x, scored.dim)
    refined = refine(
        model, guide, x, family, num_samples, seed + 1, start=start, protocol=protocol, on_progress=advance
    )
    refined = in_source_units(refined, jacobian)
    annealed = None
    if annealing or (annealing is None and needs_annealing(model, guide, x)):
        annealed = ais(model, guide, x, num_chains, num_temperatures, seed + 2, start=start, on_progress=advance)
        annealed = in_source_units(annealed, jacobian)
    best = scored if set(scored.method) != {IMPORTANCE_SAMPLING} else _surest([scored, refined, annealed])
    return GapResult(
        elbo=scored.elbo,
        elbo_se=scored.elbo_se,
        refined_elbo=refined.elbo,
        refined_elbo_se=refined.elbo_se,
        weighted=scored.bound,
        weighted_se=scored.bound_se,
        refined=refined.log_likelihood,
        refined_se=refined.log_likelihood_se,
        annealed=None if annealed is None else annealed.log_likelihood,
        annealed_se=None if annealed is None else annealed.log_likelihood_se,
        exact=scored.exact_log_likelihood,
        log_likelihood=best.log_likelihood,
        log_likelihood_se=best.log_likelihood_se,
        shortfall=best.shortfall,
        method=best.method,
        method_message=best.reliability_message,
        family=refined.metadata["family"],
        data_hash=data_hash(x),
        seconds=time.perf_counter() - started,
        metadata={
            **refined.metadata,
            "family_start": refined.metadata["start"],
            "tolerance": TOLERANCE,
            "seed": seed,
            **(
                {}
                if annealed is None
                else {f"ais_{key}": annealed.metadata[key] for key in ("num_chains", "num_temperatures", "start")}
            ),
        },
    )


def _passes(arguments: Mapping[str, Any]) -> int:
    """How often `gap` goes over the points."""
    annealing = arguments["annealing"]
    if annealing is None:
        annealing = needs_annealing(arguments["model"], arguments["guide"], arguments["x"])
    return 3 if annealing else 2


def needs_annealing(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> bool:
    """Whether log p(x) of a pair is neither known nor estimated about the modes of p(z|x)."""
    return not hasattr(model, "log_prob") and bool(why_not_laplace(model, guide, x))


def _surest(results: list[Estimator | None]) -> Estimator:
    """The reliable one with the least standard error of its mean; if none is reliable, the one with the largest mean."""
    there = [result for result in results if result is not None]
    reliable = [result for result in there if result.reliability == "reliable"]
    if reliable:
        return min(reliable, key=lambda result: result.mean_log_likelihood.mc_se)
    return max(there, key=lambda result: result.mean_log_likelihood.value)
