"""log p(x) from both sides, on any data: a lower and an upper bound for each point, and a certificate for their mean."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InvalidInputError, check_int
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.validation import check_points, handles_missing
from ..posterior.batching import chunk_progress
from ..statistics.certificate import certified_lower_bound, check_delta
from ..utils.provenance import metadata
from ..utils.random import fork_rng
from .annealing import check_weights
from .bracket import MAX_WIDTH, BracketResult
from .coupled_resampling import DrawWeights, Replicate, coupled_bounds
from .independent_weights import choose_proposal, with_guide_weights, with_weights_about_modes

__all__ = ["TwoSidedResult", "two_sided_log_likelihood"]

GIVEN = {"modes": "Given the modes found", "guide": "Given that the guide draws wherever the posterior is"}
MAX_STEPS = 100  # chains that fit their posterior meet within four
WIDTH = 0.01  # nats, about the variance over K, that K of a point is chosen for
MOST_DRAWS = 16  # times `num_samples`


@dataclass(frozen=True, repr=False)
class TwoSidedResult(BracketResult):
    """What `two_sided_log_likelihood` found, point by point: tensors (N,) on the CPU, nats.

    Both are bounds in expectation, and their errors are those over replicates. They certify weights, not modes. Where a mode was
    missed, no draw shows it: `upper` is then below log p(x), although the width is small. `lower` and `certificate` hold there
    too. Both bounds share draws, so that `width_se` is less than their errors say.
    """

    labels: ClassVar[Mapping[str, str]] = {
        "lower": "log p̂(x), from below",
        "upper": "coupled resampling, from above",
        "width": "width of the bracket",
    }
    other_values: ClassVar[tuple[str, ...]] = ("pooled_log_likelihood", "num_draws", "num_steps", "shortfall")

    pooled_log_likelihood: Tensor  # log p̂(x) of the draws of all replicates together; p̂ is unbiased
    num_draws: Tensor  # K
    num_steps: Tensor  # the most steps that the chains of a replicate took to meet; at least 1
    proposal: str  # "modes" or "guide": where the draws came from
    seconds: float
    metadata: dict[str, Any]

    @property
    def met(self) -> Tensor:
        """Whether the chains of every replicate met, so that there is an upper bound: (N,)."""
        return self.upper.isfinite()

    @property
    def certificate(self) -> float:
        """What the mean of log p(x) over these points exceeds with probability 1 − δ, nats: `certified_lower_bound`."""
        return certified_lower_bound(self.pooled_log_likelihood, self.metadata["delta"])

    def __repr__(self) -> str:
        return f"TwoSidedResult({len(self)} points: {self.message})"

    @property
    def message(self) -> str:
        """Both bounds on the mean, the width, the certificate, what they are given, and where there is no upper bound."""
        lower, upper, width = self.mean_lower, self.mean_upper, self.mean_width
        apart = int((~self.met).sum())
        bracket = f"{GIVEN[self.proposal]}: {lower.value:.4f} ≤ mean log p(x)"
        if not apart:
            bracket += f" ≤ {upper.value:.4f} nats, width {_zero(width.value)} ± {_zero(width.mc_se)}."
        else:
            bracket += (
                f" nats, and no upper bound. The coupled chains did not meet within {self.metadata['max_steps']} steps at "
                f"{apart} of {len(self)} points: the proposals fit these posteriors badly."
            )
        confidence = 100 * (1 - self.metadata["delta"])
        certified = (
            f"mean log p(x) ≥ {self.certificate:.4f} with probability {confidence:g} %, whatever the weights' tails."
        )
        return f"{bracket} Certificate: {certified}"

    @property
    def reliability_message(self) -> str:
        """The `message`, and why the lower bound is not called reliable where it is not."""
        if self.reliability == "reliable" or not bool(self.met.all()):
            return self.message
        return f"{self.message} The width is above {MAX_WIDTH} nats: more draws make it smaller, as 1/K where the weights are light-tailed."

    def summary(self) -> dict[str, Any]:
        """What can be relied on."""
        certificate = {"value": self.certificate, "delta": self.metadata["delta"]}
        met = float(self.met.double().mean())
        named = {"proposal": self.proposal, "met_fraction": met, "certificate": certificate, "message": self.message}
        return {**named, **super().summary()}


def two_sided_log_likelihood(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    num_samples: int = 256,
    num_replicates: int = 8,
    seed: int = 0,
    *,
    delta: float = 0.025,
    max_steps: int = MAX_STEPS,
    proposal: str | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> TwoSidedResult:
    """Bound log p(x_n) of every row of x from below and from above, in expectation.

    lower = E log (1/K) Σ_{k≤K} w_k ≤ log p(x) ≤ upper = E log (w(z₀) + Σ_{k<K} w_k) / K, z₀ ~ p(z|x), w = p(x, z) / q(z|x),
    z_k ~ q. No exact z₀ is needed: `coupled_resampling` has the same expectation (Ruiz, Titsias, Cemgil & Doucet 2021). q is the
    mixture about the modes of p(z|x) of `mode_sampling_log_likelihood`. 3K draws make a replicate, if the chains meet at once.

    Args:
        model: The model, a function of x.
        guide: The guide, a function of x.
        x: The points (N, ...), on the device and in the type of the pair's parameters.
        num_samples: K. The width falls as 1/K. Points whose weights vary much get 2, 4, 8 or 16 times as many. A pilot
            tells which, and its draws are not used again, so that the bounds hold.
        num_replicates: Independent repetitions; the errors of a point are those over them.
        seed: The same seed gives the same numbers.
        delta: With this probability, at most, the certificate is wrong.
        max_steps: The longest that coupled chains may run. A point whose chains have not met has no upper bound.
        proposal: "modes" draws about the modes, "guide" draws from the guide. If None, "guide" where there are no modes to search
            for: no continuous latent, or a discrete one that is drawn. "guide" too where the guide is the posterior, as
            `model.log_prob` shows.
        on_progress: Called with the number of points done since its last call.

    Raises:
        NonFiniteError: A weight is no number, or all weights of a point are zero.
        InvalidInputError: K or the replicates are fewer than 2, or δ is not between 0 and 1. Or the guide knows only one z for
            each x, or `proposal` is "modes" for a pair that has none.

    Example:
        result = pyrovae.estimators.two_sided_log_likelihood(model, guide, x)
        print(result.message, result.mean_lower, result.mean_upper)
    """
    check_int("num_samples", num_samples, 2, why=", so that there is a proposal beside the state")
    check_int("num_replicates", num_replicates, 2, why=", so that the bounds have errors")
    check_int("max_steps", max_steps, 1)
    check_delta(delta)
    check_points(x, handles_missing(model))
    started = time.perf_counter()

    def bound(draw: DrawWeights, variance: Tensor, start: int) -> dict[str, Tensor]:
        num_draws, progress = _num_draws(variance, num_samples), chunk_progress(on_progress, 1)
        parts, order = [], []
        for count in num_draws.unique().tolist():
            rows = (num_draws == count).nonzero().squeeze(-1)

            def draw_own(draws: int, some: Tensor, rows: Tensor = rows) -> Tensor:
                return draw(draws, torch.zeros_like(num_draws, dtype=torch.bool).index_fill(0, rows[some], True))

            replicates = []
            for _ in range(num_replicates):
                everyone = torch.ones_like(rows, dtype=torch.bool)
                replicates.append(coupled_bounds(draw_own, everyone, count, max_steps))
                progress(len(rows) / num_replicates)
            parts.append(_statistics(replicates))
            order.append(rows)
        back = torch.cat(order).argsort()
        values = {name: torch.cat([part[name] for part in parts])[back] for name in parts[0]}
        check_weights(values["pooled_log_likelihood"].unsqueeze(0), start)
        return {**values, "num_draws": num_draws}

    with evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device, seed):
        proposal = choose_proposal(model, guide, x) if proposal is None else proposal
        if proposal == "guide":
            parts = with_guide_weights(model, guide, x, bound)
        elif proposal == "modes":
            parts = with_weights_about_modes(model, guide, x, seed, bound)
        else:
            raise InvalidInputError(f"proposal is {proposal!r:.40}: give 'modes', 'guide', or None.")
    values = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    settings = {"num_samples": num_samples, "num_replicates": num_replicates, "delta": delta, "max_steps": max_steps}
    return TwoSidedResult(
        **values,
        proposal=proposal,
        seconds=time.perf_counter() - started,
        metadata=metadata(x, **settings, seed=seed, points=len(x)),
    )


def _num_draws(variance: Tensor, num_samples: int) -> Tensor:
    """K of each point: `num_samples` times a power of 2, by the pilot's variance of its weights."""
    times = (variance / (WIDTH * num_samples)).nan_to_num(0.0).clamp(1, MOST_DRAWS)
    return num_samples * times.log2().ceil().exp2().long()


def _statistics(replicates: Sequence[Replicate]) -> dict[str, Tensor]:
    """Means and standard errors over replicates: (N,) each."""
    lower, upper = (torch.stack([getattr(each, name) for each in replicates]) for name in ("lower", "upper"))
    return {
        **{"lower": lower.mean(0), "lower_se": _se(lower), "upper": upper.mean(0), "upper_se": _se(upper)},
        "width_se": _se(upper - lower),
        "pooled_log_likelihood": lower.logsumexp(0) - math.log(len(replicates)),
        "num_steps": torch.stack([each.num_steps for each in replicates]).amax(0),
    }


def _se(values: Tensor) -> Tensor:
    return values.std(0) / math.sqrt(len(values))


def _zero(value: float) -> str:
    """Four digits after the point, and no −0.0000."""
    return f"{round(value, 4) + 0.0:.4f}"
