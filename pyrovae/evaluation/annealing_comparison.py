"""Annealed importance sampling beside the importance weights of the same points."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..data.transforms import Transform
from ..errors import InvalidInputError
from ..estimators import bidirectional
from ..estimators.annealing import AISResult, ais
from ..estimators.annealing_starts import start_name
from ..estimators.bidirectional import BDMCResult
from ..pair.execution import ModelOrGuide
from ..posterior.joint_density import Joint
from ..statistics.estimate import Estimate, mean_difference
from ..utils.provenance import data_hash
from ..utils.random import random_rows
from .base_measure import in_source_units, log_unit_jacobian_of
from .result import Evidence


def compare_annealing(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: torch.Tensor,
    evidence: Evidence,
    num_points: int = 100,
    num_chains: int = 16,
    num_temperatures: int | None = None,
    seed: int = 0,
    *,
    start: str | None = None,
    bdmc: bool = False,
    transform: Transform | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> "AnnealingComparison":
    """Compare annealed importance sampling with the importance weights of the same points.

    Both estimate log p(x_n) from below, so the larger one is closer. AIS runs on `num_points` rows of x, drawn at
    random, or on all rows if there are no more.

    Args:
        model: The model, a function of x.
        guide: The guide, a function of x.
        x: The points (N, ...), on the device and in the type of the pair's parameters.
        evidence: What `evaluate` returned for this pair and this x.
        num_points: How many rows of x AIS runs on.
        num_chains: As for `ais`.
        num_temperatures: As for `ais`.
        seed: The same seed gives the same rows and the same numbers.
        start: As for `ais`.
        bdmc: Also bracket log p(x) by bidirectional Monte Carlo, on as many points that the model simulates.
        transform: The transform that `evaluate` was given, so that all numbers have its units.
        on_progress: Called with the number of points done since its last call, a fraction.

    Returns:
        An `AnnealingComparison`, nats. Its `difference` is AIS − importance weights, with both errors.

    Raises:
        InvalidInputError: `evidence` is of other points, or `ais` or `bdmc` raises it.

    Example:
        >>> import pyrovae, torch
        >>> model, guide = pyrovae.load("ppca")(3, latent=1)
        >>> x = torch.randn(4, 3)
        >>> evidence = pyrovae.evaluate(model, guide, x, num_samples=100)
        >>> comparison = pyrovae.compare_annealing(
        ...     model, guide, x, evidence, num_points=2, num_chains=4, num_temperatures=10
        ... )
    """
    if evidence.data_hash != data_hash(x):
        raise InvalidInputError("evidence is of other points than x: give what evaluate(model, guide, x) returned.")
    index = random_rows(x, num_points, seed)
    annealed = ais(
        model,
        guide,
        x[index.to(x.device)],
        num_chains,
        num_temperatures,
        seed,
        start=start,
        on_progress=on_progress,
    )
    annealed = in_source_units(annealed, log_unit_jacobian_of(transform, x, evidence.dim)[index])
    bracket = None
    if bdmc:
        bracket = bidirectional.bdmc(
            model,
            guide,
            x,
            len(index),
            num_chains,
            num_temperatures,
            seed,
            start=start,
            on_progress=on_progress,
        )
        bracket = in_source_units(bracket, log_unit_jacobian_of(transform, bracket.x, evidence.dim).cpu())
    return AnnealingComparison(annealed, evidence.bound[index], evidence.bound_se[index], index, bracket)


def check_can_anneal(model: ModelOrGuide, guide: ModelOrGuide, x: torch.Tensor, start: str | None = None) -> None:
    """Raise what `compare_annealing` would raise for this pair and this start, without annealing."""
    start_name(model, guide, x, start)
    Joint(model, guide, x[:2])


@dataclass(frozen=True)
class AnnealingComparison:
    """AIS on some of the points, the importance-weighted estimate of the same, and BDMC on simulated ones."""

    annealed: AISResult
    weighted: torch.Tensor
    weighted_se: torch.Tensor
    index: torch.Tensor  # which of the points
    bracket: BDMCResult | None

    @property
    def difference(self) -> Estimate:
        """AIS − importance weights, paired point by point: both are lower bounds, and more is better."""
        annealed = self.annealed
        return mean_difference(annealed.log_likelihood, annealed.log_likelihood_se, self.weighted, self.weighted_se)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        numbers: dict[str, Any] = {
            "bound": self.annealed.bound,
            "points": self.index.tolist(),
            "log_likelihood": self.annealed.log_likelihood.tolist(),
            "log_likelihood_se": self.annealed.log_likelihood_se.tolist(),
            "ess": self.annealed.ess.tolist(),
            "acceptance": self.annealed.acceptance.tolist(),
            "means": {
                "log_likelihood": self.annealed.mean_log_likelihood._asdict(),
                "minus_importance_weights": self.difference._asdict(),
            },
            "seconds": self.annealed.seconds,
            "metadata": self.annealed.metadata,
        }
        if self.bracket is not None:
            numbers["bdmc"] = {
                "bounds": self.bracket.bounds,
                "means": {
                    name: getattr(self.bracket, f"mean_{name}")._asdict() for name in ("lower", "upper", "width")
                },
                **{name: getattr(self.bracket, name).tolist() for name in ("lower", "upper", "width")},
                "seconds": self.bracket.seconds,
            }
        return numbers
