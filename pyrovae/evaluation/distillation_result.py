"""What `distil` returns: the errors of a guide before and after, on points that it was not trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..statistics.reliability import JudgedResult
from .result import Evidence


@dataclass(frozen=True, repr=False)
class DistillationResult(JudgedResult):
    """What `distil` did, on points that it did not train on: tensors (N,) on the CPU, nats.

    `log_likelihood` is log p̂(x) of `before`, for the model stays as it is. `gap` = log p̂(x) − ELBO and `bound_error` = log p̂(x) − L_K
    are what the guide's bounds lose, each before and after.
    """

    labels: ClassVar[Mapping[str, str]] = {
        "log_likelihood": "log p̂(x)",
        "elbo_before": "ELBO before",
        "elbo": "ELBO after",
        "gap_before": "gap, log p̂(x) − ELBO, before",
        "gap": "gap after",
        "bound_error_before": "bound error, log p̂(x) − L_K, before",
        "bound_error": "bound error after",
    }

    before: Evidence
    after: Evidence
    losses: tuple[float, ...]  # the mean of −log q(u|x) over an epoch's draws, nats
    seconds: float
    metadata: dict[str, Any]

    def __repr__(self) -> str:
        return f"DistillationResult({len(self)} held-out points: {self.message})"

    @property
    def message(self) -> str:
        """What the training did to the two errors of the guide."""
        gaps, errors = (
            (self.mean("gap_before"), self.mean("gap")),
            (self.mean("bound_error_before"), self.mean("bound_error")),
        )
        return (
            f"gap {gaps[0].value:.3f} → {gaps[1].value:.3f}, error of the {self.after.num_samples}-sample bound "
            f"{errors[0].value:.3f} → {errors[1].value:.3f} nats"
        )

    @property
    def log_likelihood(self) -> Tensor:
        return self.before.log_likelihood

    @property
    def log_likelihood_se(self) -> Tensor:
        return self.before.log_likelihood_se

    @property
    def shortfall(self) -> Tensor:
        return self.before.shortfall

    @property
    def method(self) -> tuple[str, ...]:
        """How log p̂(x) of each point was computed."""
        return self.before.method

    @property
    def reliability_message(self) -> str:
        return self.before.reliability_message

    @property
    def elbo_before(self) -> Tensor:
        return self.before.elbo

    @property
    def elbo_before_se(self) -> Tensor:
        return self.before.elbo_se

    @property
    def elbo(self) -> Tensor:
        return self.after.elbo

    @property
    def elbo_se(self) -> Tensor:
        return self.after.elbo_se

    @property
    def gap_before(self) -> Tensor:
        """log p̂(x) − ELBO before: (N,), nats."""
        return self.log_likelihood - self.elbo_before

    @property
    def gap_before_se(self) -> Tensor:
        return _joint_se(self.log_likelihood_se, self.elbo_before_se)

    @property
    def gap(self) -> Tensor:
        """log p̂(x) − ELBO after: (N,), nats."""
        return self.log_likelihood - self.elbo

    @property
    def gap_se(self) -> Tensor:
        return _joint_se(self.log_likelihood_se, self.elbo_se)

    @property
    def bound_error_before(self) -> Tensor:
        """log p̂(x) − L_K before: (N,), nats."""
        return self.log_likelihood - self.before.bound

    @property
    def bound_error_before_se(self) -> Tensor:
        return _joint_se(self.log_likelihood_se, self.before.bound_se)

    @property
    def bound_error(self) -> Tensor:
        """log p̂(x) − L_K after: (N,), nats."""
        return self.log_likelihood - self.after.bound

    @property
    def bound_error_se(self) -> Tensor:
        return _joint_se(self.log_likelihood_se, self.after.bound_se)

    @property
    def bounds(self) -> Mapping[str, str]:
        return {"elbo_before": "lower", "elbo": "lower", "log_likelihood": "lower"}

    def summary(self) -> dict[str, Any]:
        """K, the losses, the points, and what can be relied on."""
        number = {
            "num_samples": self.after.num_samples,
            "final_loss": self.losses[-1],
            "data_hash": self.before.data_hash,
        }
        return {**number, "message": self.message, **super().summary()}


def _joint_se(first: Tensor, second: Tensor) -> Tensor:
    return (first.square() + second.square()).sqrt()
