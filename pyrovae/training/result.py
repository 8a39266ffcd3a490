"""How a fit went."""

import math
from dataclasses import dataclass, field

from ..utils.notebook import ShownAsHTML
from .elbo_decline import elbo_decline_warning


@dataclass
class FitResult(ShownAsHTML):
    """How a fit went. `losses` are what was minimised, nats per data point, one an epoch, averaged over its batches' points:
    −ELBO by default, minus the bound of other objectives; while `kl_warmup_fraction` lasts, with its weight on the KL.

    `history` has a row for each epoch: `loss`; `elbo`, the ELBO itself whatever the objective, and its parts
    `reconstruction` E[log p(x|z)] and `kl`, nats per point and NaN where the objective does not tell them; `grad_norm`, the mean
    norm of a step's gradient per point; `lr`, as the epoch left it; `kl_weight`, the weight of `kl_warmup_fraction` at its last step;
    `validation_elbo`, nats per point held out; `seconds`.
    """

    losses: list[float] = field(default_factory=list, repr=False)
    objective: str = ""
    steps: int = 0
    seconds: float = 0.0
    execution: str = ""  # whether steps were recorded, and why
    history: list[dict[str, float]] = field(default_factory=list, repr=False)
    stop_reason: str = ""  # why training ended before its last epoch, if it did
    no_density: str = ""  # why `losses` are no −ELBO, and there is none in `history`: the model's own sentence
    initial_elbo: float = math.nan  # the ELBO before the first step, of some points, nats per point
    initial_elbo_se: float = math.nan
    floor_message: str = ""  # in how many directions of which columns variances ended at their floor

    @property
    def warning(self) -> str:
        """What to know before the pair is used: that the ELBO ended below where it began, beyond its noise, and where a floor of
        variances binds; else nothing."""
        return " ".join(filter(None, (self.decline_message, self.floor_message)))

    @property
    def decline_message(self) -> str:
        """That the ELBO ended below where it began, beyond its noise; else nothing."""
        return elbo_decline_warning(self.history, self.initial_elbo, self.initial_elbo_se)
