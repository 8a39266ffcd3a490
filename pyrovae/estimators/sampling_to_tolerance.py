"""Weights of each point until its estimate of log p(x) has the standard error that was asked for."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..posterior.batching import block_sizes
from ..posterior.joint_density import Joint
from ..posterior.mode_mixture import ModeMixture
from ..statistics.weight_sums import WeightSums
from ..utils.deadline import OutOfTimeError
from .annealing_path import anneal_from_mixture

MIN_DRAWS = 128
MORE = 1.3  # times the draws that the error so far asks for
MIN_CHAINS = 64
ESTIMATES = ("log_likelihood", "log_likelihood_se", "ess", "largest_weight")

Weigh = Callable[[Joint, ModeMixture, int], WeightSums]


def draw_to_tolerance(
    joint: Joint,
    mixture: ModeMixture,
    counts: Tensor,
    tolerance: float,
    max_draws: int,
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, Tensor]:
    """`counts` (N,) draws of the mixture for each point, and more where the error is above the tolerance then.

    Draws are added to those that are there, and none is left out. At the deadline of `joint` drawing ends. A point that has
    no draw by then has `num_draws` 0 and estimates NaN. `on_step` is called after each block of draws.
    """

    def weigh(joint: Joint, mixture: ModeMixture, count: int) -> WeightSums:
        total: WeightSums | None = None
        for size in block_sizes(count, len(joint.x)):
            try:
                _, log_w = mixture.weigh(joint, size)
            except OutOfTimeError:
                if total is None:
                    raise
                break
            block = WeightSums.of(log_w)
            total = block if total is None else total.joined(block)
            on_step()
        assert total is not None
        return total

    return _to_tolerance(joint, mixture, counts, weigh, tolerance, max_draws)


def anneal_to_tolerance(
    joint: Joint,
    mixture: ModeMixture,
    tolerance: float,
    max_chains: int,
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, Tensor]:
    """Chains of annealed importance sampling from the mixture, in place of draws of it.

    At the deadline of `joint` the chains that are under way are lost. `on_step` is called at each temperature.
    """

    def advance(fraction: float) -> None:
        joint.deadline.check()
        on_step()

    def weigh(joint: Joint, mixture: ModeMixture, count: int) -> WeightSums:
        return anneal_from_mixture(joint, mixture, num_chains=count, on_progress=advance).weights

    counts = torch.full((len(joint.x),), float(MIN_CHAINS), device=joint.x.device, dtype=torch.float64)
    return _to_tolerance(joint, mixture, counts, weigh, tolerance, max_chains)


def _to_tolerance(
    joint: Joint,
    mixture: ModeMixture,
    counts: Tensor,
    weigh: Weigh,
    tolerance: float,
    max_count: int,
) -> dict[str, Tensor]:
    """Points that need about as many weights are weighed together."""
    values = {name: torch.full_like(counts, math.nan) for name in ESTIMATES}
    num_draws = torch.zeros_like(counts, dtype=torch.long)

    def work(rows: Tensor, more: Tensor, before: WeightSums | None) -> None:
        for count in more.unique().tolist():
            chosen = more == count
            own = rows[chosen]
            sums = None if before is None else before.subset(chosen)
            try:
                fresh = weigh(joint.subset(own), mixture.subset(own), int(count))
                sums = fresh if sums is None else sums.joined(fresh)
            except OutOfTimeError:
                if sums is None:
                    continue
            lacking = _lacking(sums, tolerance, max_count)
            done = (lacking == 0) | joint.deadline.passed
            for name in ESTIMATES:
                values[name][own[done]] = getattr(sums, name)[done]
            num_draws[own[done]] = sums.count
            if not bool(done.all()):
                work(own[~done], lacking[~done], sums.subset(~done))

    work(torch.arange(len(counts), device=counts.device), _rounded_up(counts, max_count), None)
    return {**values, "num_draws": num_draws}


def _lacking(sums: WeightSums, tolerance: float, max_count: int) -> Tensor:
    """How many weights each point is to get beside those it has: 0 where the error is small enough, or there may be no more."""
    needed = MORE * sums.relative_variance / tolerance**2
    lacking = _rounded_up((needed - sums.count).nan_to_num(0.0), max(1, max_count - sums.count))
    return torch.where((sums.log_likelihood_se > tolerance) & (sums.count < max_count), lacking, 0.0)


def _rounded_up(needed: Tensor, most: int) -> Tensor:
    """Numbers of weights to a power of √2, so that points that need about the same are weighed together."""
    return needed.clamp(min(MIN_CHAINS, most), most).log2().mul(2).ceil().div(2).exp2().ceil().clamp(max=most)
