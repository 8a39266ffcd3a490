"""log p(x) of every point to a requested standard error: importance sampling from a mixture about the posterior's modes."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..data.streams import PointStream
from ..errors import InvalidInputError, check_int
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.parameters import is_per_point
from ..pair.validation import check_points, handles_missing
from ..posterior.batching import MIN_CHUNK_DRAWS, chunk_points, chunk_progress, in_chunks_of
from ..posterior.joint_density import Joint
from ..posterior.mixture_fitting import fit_mixture
from ..posterior.mode_search import choose_search, short_search
from ..posterior.modes import MAX_SHARE_FOUND_ONCE
from ..posterior.precision import CHECKED_POINTS, in_sufficient_precision
from ..statistics.estimate import Estimate
from ..statistics.reliability import FEW_DRAWS_ESS, MAX_WEIGHT, MIN_ESS, MIN_ESS_FRACTION
from ..statistics.result import PointwiseResult
from ..utils.deadline import Deadline, OutOfTimeError
from ..utils.distributed import ProcessGroup, alone, concatenated
from ..utils.provenance import metadata
from ..utils.random import derived_seed, fork_rng
from .annealing import check_weights
from .partial_results import PartialResults
from .sampling_to_tolerance import ESTIMATES, MIN_DRAWS, anneal_to_tolerance, draw_to_tolerance

__all__ = ["ModeSamplingResult", "mode_sampling_log_likelihood"]

MAX_VARIANCE = 50.0  # of a draw's weight, with its safety, above which chains of annealing cost less than draws
MAX_DRAWS = 20_000
NUM_TEMPERATURES = 32  # of such a chain: it costs about as much as so many draws
SEARCH_SHARE, FIT_SHARE, BLOCK_SHARE, TEMPERATURE_SHARE = 0.3, 0.3, 0.1, 0.02  # of the progress bar that is left
NOT_ARRIVED_ESS_FRACTION = 0.2  # below it the draws do not show that a place where no climb came to rest is the mode


@dataclass(frozen=True, repr=False)
class ModeSamplingResult(PointwiseResult):
    """What `mode_sampling_log_likelihood` estimated, point by point: tensors (N,) on the CPU, nats.

    exp(log p̂(x)) is unbiased, because the number of draws was chosen from other draws. So log p̂(x) is a lower bound
    on log p(x) in expectation. All is said given the modes found: no method knows of a narrow mode that no start has
    come near.
    """

    labels: ClassVar[Mapping[str, str]] = {"log_likelihood": "importance sampling about the modes"}
    other_values: ClassVar[tuple[str, ...]] = (
        "ess",
        "num_draws",
        "largest_weight",
        "num_modes",
        "share_found_once",
    )

    log_likelihood: Tensor
    log_likelihood_se: Tensor
    ess: Tensor  # effective sample size, of num_draws
    num_draws: Tensor
    largest_weight: Tensor  # its share of the sum of all weights
    num_modes: Tensor
    share_found_once: Tensor  # of the starts, those that end where no other comes near
    arrived: Tensor  # whether Newton's steps came to an end at a mode
    annealed: Tensor  # whether the weights are those of annealed chains that begin at the mixture
    seconds: float
    metadata: dict[str, Any]

    @property
    def mean_log_likelihood(self) -> Estimate:
        return self.mean("log_likelihood")

    def __repr__(self) -> str:
        value, mc_se, data_se = self.mean_log_likelihood
        return (
            f"ModeSamplingResult({len(self)} points: log p̂(x) {value:.3f} ± {mc_se:.4f} ± {data_se:.3f}, "
            f"{int(self.reliable.sum())} of them reliable)"
        )

    @property
    def reached(self) -> Tensor:
        """Whether the standard error of a point is at most the tolerance: (N,)."""
        return self.log_likelihood_se <= self.metadata["tolerance"]

    @property
    def without_draws(self) -> Tensor:
        """The points that `max_seconds` left no draw for: (N,). Their estimates are NaN."""
        return self.num_draws == 0

    @property
    def shortfall(self) -> Tensor:
        """By how much log p̂(x) may be too low, as far as the draws and the search show, nats: (N,).

        0 where a point is reliable; infinite where no start came to rest at a mode. NaN where one draw has all the
        weight, so that there is no estimate. A draw that carries the share r of all weight says that as much may be
        missing, −log(1 − r). So does the share of starts that end where no other comes near (Good 1953).
        """
        unseen = self.share_found_once.clamp(min=0) * (self.share_found_once > MAX_SHARE_FOUND_ONCE)
        missing = -torch.log1p(-self.largest_weight) - torch.log1p(-unseen) + self.log_likelihood_se
        missing = torch.where(self._lost, torch.inf, missing)
        missing = torch.where((self.ess < MIN_ESS) | self.without_draws, torch.nan, missing)
        return torch.where(self.reliable, 0.0, missing)

    @property
    def reliable(self) -> Tensor:
        """Whether a point's estimate and its error hold, given the modes found: (N,). Where not, it is a lower bound."""
        return ~torch.stack(list(self._doubts().values())).any(0)

    @property
    def _lost(self) -> Tensor:
        """Where no climb came to rest and the draws do not make up for it. At a kink none does, and the draws are as good as ever."""
        return ~self.arrived & ~(self.ess > NOT_ARRIVED_ESS_FRACTION * self.num_draws) & ~self.without_draws

    def _doubts(self) -> dict[str, Tensor]:
        """Why a point is not reliable, as a clause about such points: (N,) each."""
        few = (self.ess < (MIN_ESS_FRACTION * self.num_draws).clamp(min=FEW_DRAWS_ESS)) | (
            self.largest_weight > MAX_WEIGHT
        )
        return {
            "a few draws carry the weight": few,
            "many starts end where no other comes near, so modes are missing": self.share_found_once
            > MAX_SHARE_FOUND_ONCE,
            "no start comes to rest at a mode, as where single precision does not resolve the density": self._lost,
            "there was no time for them": self.without_draws,
        }

    @property
    def reliability_message(self) -> str:
        """What standard error was reached, and at which points log p̂(x) is only a lower bound, and why."""
        points, reached = len(self), self._reached_message()
        if bool(self.reliable.all()):
            return f"{reached} Reliable at every point, given the modes found."
        doubts = "; ".join(f"{why} ({int(where.sum())})" for why, where in self._doubts().items() if bool(where.any()))
        missing = float(self.shortfall.mean())
        effect = (
            f"together they may raise the mean by about {missing:.2g} nats"
            if math.isfinite(missing)
            else "by how much is unknown"
        )
        return (
            f"{reached} Reliable at {int(self.reliable.sum())} of {points} points, given the modes found. At the others "
            f"log p̂(x) is a lower bound, and {effect}: {doubts}."
        )

    def _reached_message(self) -> str:
        """At how many points the standard error is what was asked for, by which method, and what the others would take."""
        tolerance, reached = self.metadata["tolerance"], self.reached
        message = f"Standard error at most {tolerance:g} nats at {int(reached.sum())} of {len(self)} points"
        if bool(self.annealed.any()):
            message += f" ({int((reached & ~self.annealed).sum())} laplace, {int((reached & self.annealed).sum())} ais)"
        others = ~reached & ~self.without_draws & self.log_likelihood_se.isfinite()
        if bool(others.any()):
            factor = float((self.log_likelihood_se[others] / tolerance).square().median())
            message += f"; the others need about {factor:.2g} times their draws"
        if bool(self.without_draws.any()):
            message += f"; there was no time for {int(self.without_draws.sum())} points"
            if (whole := self.metadata.get("seconds_needed")) is not None:
                message += f", and all would take about {whole:.2g} seconds"
        return f"{message}."

    def summary(self) -> dict[str, Any]:
        """What can be relied on."""
        return {
            "reached_fraction": float(self.reached.double().mean()),
            "reliable_fraction": float(self.reliable.double().mean()),
            "reliability_message": self.reliability_message,
        }

    @property
    def bounds(self) -> Mapping[str, str]:
        return {"log_likelihood": "lower"}


def mode_sampling_log_likelihood(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    tolerance: float = 0.05,
    seed: int = 0,
    *,
    max_draws: int = MAX_DRAWS,
    max_seconds: float | None = None,
    partial: PartialResults | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> ModeSamplingResult:
    """Estimate log p(x_n) of every row of x with a standard error of at most `tolerance` nats.

    log p̂(x) = log (1/K) Σ_k p(x, u_k) / q(u_k), u_k ~ q. u are the latents, unconstrained. q is a mixture of Student t
    distributions about the modes of p(u|x), with a share of the prior. Newton's method finds the modes. It starts at the mean of
    the guide and at draws of the prior, so that a poor guide costs time and no accuracy. A pilot run chooses K for
    each point, and its draws are not used again. So K does not depend on the draws that count, and p̂ is unbiased
    (Stein 1945). If the pilot shows that most draws of q would be wasted, annealed importance sampling from q is used
    (Neal 2001). Then K counts chains.

    The error may be above the tolerance all the same: the pilot has not seen the tail of the weights. Such a point gets more draws
    beside those that it has. As these were looked at before, its p̂ is no longer exactly unbiased.

    Args:
        model: The model, a function of x.
        guide: The guide, a function of x.
        x: The points (N, ...), on the device and in the type of the pair's parameters.
        tolerance: The standard error that each point is to have, nats.
        seed: The same seed gives the same numbers, unless time runs out.
        max_draws: The largest K. A point that needs more gets this many, and an error above the tolerance. A chain counts for 32.
        max_seconds: After so many seconds the search for modes and its draws stop, if given. Points without draws have NaN.
        partial: Where the numbers of finished points are kept. Those that it has are not computed again.
        on_progress: Called with the number of points done since its last call.

    Returns:
        A `ModeSamplingResult`, in nats.

    Raises:
        NonFiniteError: No draw of some point has a finite weight.
        InvalidInputError: The tolerance is not a positive number; a latent is discrete and not summed out, or an angle; there is no
            continuous latent.

    Example:
        result = pyrovae.estimators.mode_sampling_log_likelihood(model, guide, x, tolerance=0.02)
        result.mean("log_likelihood"), result.reliable.double().mean()
    """
    check_tolerance(tolerance)
    check_int("max_draws", max_draws, MIN_DRAWS)
    check_seconds(max_seconds)
    check_points(x, handles_missing(model))
    started = time.perf_counter()
    deadline = Deadline(max_seconds)

    per_point = is_per_point(guide, x)  # then the points cannot be split
    model, guide, x = in_sufficient_precision(model, guide, x, len(x) if per_point else CHECKED_POINTS)

    def work(joint: Joint, progress: _ChunkProgress) -> dict[str, Tensor]:
        modes = search(joint)
        progress.advance(SEARCH_SHARE)
        mixture, needed = fit_mixture(joint, modes, tolerance, max_draws)
        progress.advance(FIT_SHARE)
        hard = needed > MAX_VARIANCE / tolerance**2
        easy, max_chains = ~hard, max(1, max_draws // NUM_TEMPERATURES)
        counts = needed[easy].clamp(min=MIN_DRAWS)
        drawn = draw_to_tolerance(
            joint.subset(easy),
            mixture.subset(easy),
            counts,
            tolerance,
            max_draws,
            lambda: progress.advance(BLOCK_SHARE),
        )
        annealed = anneal_to_tolerance(
            joint.subset(hard), mixture.subset(hard), tolerance, max_chains, lambda: progress.advance(TEMPERATURE_SHARE)
        )
        return {
            **{name: _merged(hard, annealed[name], drawn[name]) for name in drawn},
            "num_modes": modes.exists.sum(0),
            "share_found_once": modes.share_found_once,
            "arrived": modes.arrived,
            "annealed": hard,
        }

    def keep(points: Tensor, start: int) -> int:
        progress = _ChunkProgress(chunk_progress(on_progress, len(points)))
        with fork_rng(
            x.device, derived_seed(seed, start)
        ):  # a chunk's noise does not depend on what was done before it
            try:
                deadline.check()
                values = work(Joint(model, guide, points, deadline), progress)
            except OutOfTimeError:
                values = _nothing(len(points))
            except torch.OutOfMemoryError:  # a part of these points is tried next
                progress.undo()
                raise
        without_draws = values["num_draws"] == 0
        values["work_done"] = torch.full((len(points),), 1 - progress.left * float(without_draws.any()))
        check_weights(torch.where(without_draws, 0.0, values["log_likelihood"]).unsqueeze(0), start)
        kept.add({name: value.cpu() for name, value in values.items()}, len(points), final=not deadline.passed)
        progress.advance(1.0)
        return len(points)

    ranks, chunk = ProcessGroup(), len(x) if per_point else chunk_points(x, MIN_CHUNK_DRAWS)
    chunks = ranks.share(-(-len(x) // chunk))  # each with noise of its own
    own = slice(chunks.start * chunk, min(len(x), chunks.stop * chunk))
    kept = PartialResults() if partial is None else partial
    kept.skip_to(own.start)
    left = slice(kept.points, max(own.stop, kept.points))
    chunk_progress(on_progress, left.start - own.start)(1.0)

    def own_part() -> dict[str, Tensor]:
        points = x.part(left) if isinstance(x, PointStream) else x[left]
        with alone():
            in_chunks_of(
                points,
                chunk,
                lambda some, start: keep(some, left.start + start),
                whole=per_point,
            )
        return kept.statistics()

    with evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device, seed):
        try:
            search = choose_search(model, guide, x, seed, deadline)
        except OutOfTimeError:
            search = short_search  # which no point comes to
        values = concatenated(ranks.collect(own_part))
    settings = {"tolerance": tolerance, "max_draws": max_draws, "seed": seed, "points": len(x)}
    seconds, work_done = time.perf_counter() - started, float(values.pop("work_done").mean())
    if max_seconds is not None:
        settings |= {"max_seconds": max_seconds}
        if work_done:
            settings |= {"seconds_needed": seconds / work_done}
    return ModeSamplingResult(**values, seconds=seconds, metadata=metadata(x, **settings))


def check_tolerance(tolerance: Any) -> None:
    """Raise `InvalidInputError` for anything but a positive, finite number."""
    if not (isinstance(tolerance, int | float) and tolerance > 0 and math.isfinite(tolerance)):
        raise InvalidInputError(
            f"tolerance is {tolerance!r:.40}: give the standard error in nats that each point is to have, such as 0.05."
        )


def check_seconds(max_seconds: Any) -> None:
    """Raise `InvalidInputError` for anything but a positive number, or None for no limit."""
    if max_seconds is not None and not (isinstance(max_seconds, int | float) and max_seconds > 0):
        raise InvalidInputError(f"max_seconds is {max_seconds!r:.40}: give a number of seconds above 0, such as 60.")


def _merged(mask: Tensor, where: Tensor, elsewhere: Tensor) -> Tensor:
    """One value for each point, from the values of those in the mask and those outside."""
    merged = elsewhere.new_empty(len(mask))
    merged[mask], merged[~mask] = where, elsewhere
    return merged


class _ChunkProgress:
    """The progress of a chunk of points, where how much work is left shows on the way only.

    Each step is a share of what is left, so that the bar moves on and is not full before the end.
    """

    def __init__(self, tell: Callable[[float], None]):
        self.tell, self.left = tell, 1.0

    def advance(self, share: float) -> None:
        self.tell(share * self.left)
        self.left *= 1 - share

    def undo(self) -> None:
        self.tell(self.left - 1)
        self.left = 1.0


def _nothing(points: int) -> dict[str, Tensor]:
    """The values of points that there was no time for."""
    nan, zero = torch.full((points,), math.nan, dtype=torch.float64), torch.zeros(points, dtype=torch.long)
    no = torch.zeros(points, dtype=torch.bool)
    numbers = dict.fromkeys((*ESTIMATES, "share_found_once"), nan)
    return {**numbers, "num_draws": zero, "num_modes": zero, "arrived": no, "annealed": no}
