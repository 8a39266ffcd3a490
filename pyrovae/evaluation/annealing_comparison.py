"""Annealed importance sampling beside the importance weights of the same points."""

from dataclasses import dataclass
from typing import Any

import torch

from ..estimators.annealing import AISResult
from ..estimators.bidirectional import BDMCResult
from ..statistics.estimate import Estimate, mean_over_points


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
        error = (self.annealed.log_likelihood_se.square() + self.weighted_se.square()).sqrt()
        return mean_over_points(self.annealed.log_likelihood - self.weighted, error)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        found: dict[str, Any] = {
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
            found["bdmc"] = {
                "bounds": self.bracket.bounds,
                "means": {
                    name: getattr(self.bracket, f"mean_{name}")._asdict() for name in ("lower", "upper", "width")
                },
                **{name: getattr(self.bracket, name).tolist() for name in ("lower", "upper", "width")},
                "seconds": self.bracket.seconds,
            }
        return found
