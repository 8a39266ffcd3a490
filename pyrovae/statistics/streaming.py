"""What log-weights leave behind when they come in pieces: sums, a few moments, and the largest of them. No Pyro here."""

import math

import torch
from torch import Tensor

from .bound_curve import BoundCurveAccumulator
from .pareto import pareto_k_of_largest, tail_length

MIN_LARGEST_WEIGHTS = 224  # kept of a point: each of the others is then below 1/224 of the sum
POWERS = (1, 2, 3, 4)


class StreamingStatistics:
    """The statistics of log-weights (samples, N) of which any number of rows is seen at a time.

    It keeps the largest weights, which the Pareto fit needs. Of all others, the body, it keeps the power sums Σ wʲ, j
    = 1 … 4. So memory grows only with the square root of the number of draws. In double precision throughout.
    """

    def __init__(self, num_samples: int, points: int, device: torch.device):
        zeros = torch.zeros(points, dtype=torch.float64, device=device)
        self.num_samples = num_samples
        self.num_largest = min(num_samples, max(tail_length(num_samples) + 1, MIN_LARGEST_WEIGHTS))
        self.num_seen = 0
        self.waiting: list[Tensor] = []
        self.largest = zeros.expand(0, points)  # (≤ num_largest, N), in any order
        self.bound_curve = BoundCurveAccumulator(num_samples)
        self.top = zeros - math.inf  # the body's largest, by which its sums are divided
        self.powers = zeros.repeat(len(POWERS), 1)
        self.cross = zeros  # Σ w (log w − centre) over the body
        self.centre = zeros
        self.eps = 0.0

    def add(self, log_w: Tensor) -> Tensor | None:
        """Add the next draws, (s, N). They wait until there are enough of them to be ranked together.

        Then it returns which rows of [those kept so far; those that waited] are kept now, (kept, N).
        """
        self.eps = torch.finfo(log_w.dtype).eps
        self.waiting.append(log_w.double())
        self.num_seen += len(log_w)
        enough = sum(map(len, self.waiting)) >= 8 * self.num_largest
        return self._rank() if enough or self.num_seen == self.num_samples else None

    def _rank(self) -> Tensor:
        log_w, self.waiting = torch.cat(self.waiting), []
        if not len(self.largest):
            self.centre = log_w.max(dim=0).values.nan_to_num(neginf=0.0)
        self.bound_curve.add(log_w)
        every = torch.cat([self.largest, log_w])
        self.largest, order = every.topk(min(self.num_largest, len(every)), dim=0, sorted=False)
        if len(every) > self.num_largest:
            self._sink(every.scatter(0, order, -math.inf))
        return order

    def _sink(self, body: Tensor) -> None:
        """(s, N) more log-weights for the body; those of weight 0 count for nothing."""
        top = torch.maximum(self.top, body.max(dim=0).values)
        w, before = _relative(body, top), _relative(self.top, top)
        square = w.square()
        sums = torch.stack([power.sum(dim=0) for power in (w, square, square * w, square.square())])
        self.powers = self.powers * torch.stack([before**j for j in POWERS]) + sums
        self.cross = self.cross * before + _weighted(w, body - self.centre).sum(dim=0)
        self.top = top

    def correct(self, largest: Tensor, weight: Tensor, logarithm: Tensor, se: Tensor) -> None:
        """Replace the log-weights that are kept, and shift those of all other draws.

        Args:
            largest: The new values of those kept, (kept, N).
            weight: Added to the logarithm of the sum of the others, (N,).
            logarithm: Added to the mean of the logarithms of the others, (N,).
            se: The standard error of `logarithm`, (N,).
        """
        self.largest = largest.double()
        self.cross = self.cross + self.powers[0] * weight
        self.top = self.top + weight
        for moments in self.bound_curve.moments:
            moments.mean = moments.mean + logarithm
            moments.scatter = moments.scatter + se.square() * moments.count * (moments.count - 1)

    def body_fraction(self) -> Tensor:
        """The fraction of the sum that the body has, (N,)."""
        body = self.top + self.powers[0].log()
        return (body - torch.logaddexp(body, torch.logsumexp(self.largest, dim=0))).exp().nan_to_num()

    def statistics(self) -> dict[str, Tensor]:
        """Return every field of `Evidence` that comes from the weights, (N,) each, by name.

        The values are those of the functions of the same names for all rows at once. `bound` and `bound_se` (len(K),
        N) are the bound curve. No weight may be NaN, and each point needs one above zero.

        With r = w / Σw, the jackknife is log p̂ − (K−1) [(1/K) Σ log(1−r) − log(1−1/K)]. The logarithms of the body,
        where r < 1/224, use their series to the fourth term, with an error below 1e-10.
        """
        largest = self.largest.sort(dim=0, descending=True).values
        K, top = self.num_samples, largest[0]
        w, below = _relative(largest, top), _relative(self.top, top)
        body = torch.stack([sums * below**j for j, sums in zip(POWERS, self.powers, strict=True)])
        total, squares = w.sum(dim=0) + body[0], w.square().sum(dim=0) + body[1]
        log_likelihood = top + total.log() - math.log(K)
        moments = self.bound_curve.moments[0]
        ess = total.square() / squares
        cross = _weighted(w, largest - self.centre).sum(dim=0) + self.cross * below
        if K > 1:
            spread = (K / ess - 1).clamp(min=0)  # the relative variance of w
            slope = 2 * (cross / total + self.centre - moments.mean)
            gap = (K / (K - 1) * (spread - slope) + moments.scatter / (K - 1)).clamp(min=0)
            se, gap_se = (spread / (K - 1)).sqrt(), (gap / K).sqrt()
            rest = (
                (w[1:].sum(dim=0) + body[0]) / total
            ).log()  # of log(1 − r) for the largest, where 1 − r would cancel
            series = sum(sums / total**j / j for j, sums in zip(POWERS, body, strict=True))
            logs = rest + torch.log1p(-w[1:] / total).sum(dim=0) - series
            jackknife = log_likelihood - (K - 1) * (logs / K - math.log1p(-1 / K))
        else:
            se = gap_se = jackknife = torch.full_like(top, math.nan)
        curve = self.bound_curve.curve(log_likelihood, se)
        return {
            "elbo": moments.mean,
            "elbo_se": moments.se,
            "log_likelihood": log_likelihood,
            "log_likelihood_se": se,
            "log_likelihood_jackknife": jackknife,
            "gap_se": gap_se,
            "ess": ess,
            "pareto_k": pareto_k_of_largest(largest, K, self.eps, ess),
            "bound": curve.value,
            "bound_se": curve.se,
        }


def _relative(log_w: Tensor, top: Tensor) -> Tensor:
    """w / w_top, 0 where both are 0."""
    return torch.where(log_w > -math.inf, (log_w - top).exp(), 0.0)


def _weighted(w: Tensor, log_w: Tensor) -> Tensor:
    """w log w, 0 for w = 0."""
    return torch.where(w > 0, w * log_w, 0.0)
