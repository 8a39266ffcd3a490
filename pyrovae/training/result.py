"""How a fit went."""

import math
from dataclasses import dataclass, field

from .elbo_decline import elbo_decline_warning


@dataclass
class FitResult:
    """How a fit went. `losses` are what was minimised, nats per data point, one an epoch, averaged over its batches' points:
    −ELBO by default, minus the bound of other objectives; while `kl_warmup` lasts, with its weight on the KL.

    `history` has a row for each epoch: `loss`; `elbo`, the ELBO itself whatever the objective, and its parts
    `reconstruction` E[log p(x|z)] and `kl`, nats per point and NaN where the objective does not tell them; `gradient`, the mean
    norm of a step's gradient per point; `lr`, as the epoch left it; `beta`, the weight of `kl_warmup` at its last step;
    `validation`, nats per point held out; `seconds`.
    """

    losses: list[float] = field(default_factory=list, repr=False)
    objective: str = ""
    steps: int = 0
    seconds: float = 0.0
    road: str = ""  # whether steps were recorded, and why
    history: list[dict[str, float]] = field(default_factory=list, repr=False)
    stopped: str = ""  # why training ended before its last epoch, if it did
    no_density: str = ""  # why `losses` are no −ELBO, and there is none in `history`: the model's own sentence
    start: float = math.nan  # the ELBO before the first step, of some points, nats per point
    start_se: float = math.nan

    @property
    def warning(self) -> str:
        """What to know before the pair is used: that the ELBO ended below where it began, beyond its noise; else nothing."""
        return elbo_decline_warning(self.history, self.start, self.start_se)
