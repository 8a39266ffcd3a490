"""How a fit went."""

import math
from dataclasses import dataclass, field

from ..utils.notebook import ShownAsHTML
from .elbo_decline import elbo_decline_warning


@dataclass(repr=False)
class FitResult(ShownAsHTML):
    """The result of `fit`.

    Attributes:
        losses: The quantity that was minimised, nats per data point, one value for each epoch. By default it is
            −ELBO. Other objectives have minus their bound. During KL warm-up the KL has its weight.
        objective: The name of the objective.
        steps: How many steps were made.
        seconds: How long training took.
        execution: Whether the steps were compiled, and why.
        history: A dictionary for each epoch, with the keys below.
        stop_reason: Why training ended before its last epoch, if it did.
        no_density: Why there is no ELBO in `history`, if the model has no density.
        initial_elbo: The ELBO before the first step, of some points, nats per point.
        initial_elbo_se: Its standard error.

    The keys of `history` are `epoch`, `loss`, `elbo`, `reconstruction` E[log p(x|z)], `kl`, `grad_norm`, `lr`,
    `kl_weight`, `validation_elbo` and `seconds`. `elbo` is the ELBO whatever the objective. Losses and ELBOs are in
    nats per point. A value is NaN if the objective does not provide it. `grad_norm` is the mean norm of a step's
    gradient per point. `lr` and `kl_weight` are those of the last step of the epoch.
    """

    losses: list[float] = field(default_factory=list)
    objective: str = ""
    steps: int = 0
    seconds: float = 0.0
    execution: str = ""  # whether steps were recorded, and why
    history: list[dict[str, float]] = field(default_factory=list)
    stop_reason: str = ""  # why training ended before its last epoch, if it did
    no_density: str = ""  # why `losses` are no −ELBO, and there is none in `history`: the model's own sentence
    initial_elbo: float = math.nan  # the ELBO before the first step, of some points, nats per point
    initial_elbo_se: float = math.nan
    floor_message: str = ""  # in how many directions of which columns variances ended at their floor

    def __repr__(self) -> str:
        """The ELBO before and after, or the loss, if the objective knows no ELBO."""
        steps = f"{self.objective}, {self.steps:,} steps in {self.seconds:.1f} seconds"
        if not self.history:
            return f"FitResult({steps})"
        last = self.history[-1]
        if math.isnan(last["elbo"]):
            return f"FitResult({steps}: loss {last['loss']:.3f} nats per point)"
        before = "" if math.isnan(self.initial_elbo) else f"{self.initial_elbo:.3f} → "
        return f"FitResult({steps}: ELBO {before}{last['elbo']:.3f} nats per point)"

    @property
    def warning(self) -> str:
        """A warning if the ELBO ended below its start, beyond its noise, or a floor of variances binds; else ""."""
        return " ".join(filter(None, (self.decline_message, self.floor_message)))

    @property
    def decline_message(self) -> str:
        """A warning if the ELBO ended below its start, beyond its noise; else ""."""
        return elbo_decline_warning(self.history, self.initial_elbo, self.initial_elbo_se)
