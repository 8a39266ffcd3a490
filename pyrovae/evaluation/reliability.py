"""Is log p̂ to be believed? The Pareto k̂ of the points, in a sentence."""

import math

import torch
from torch import Tensor

from ..statistics.pareto import MIN_TAIL_DRAWS, is_high_pareto_k, pareto_k_threshold, tail_length
from ..statistics.reliability import MIN_ESS

NEARLY_EQUAL_ESS, MANY_DRAWS = 0.9, 500  # of the draws, and draws: above both, the tail that k̂ sees weighs nothing
MAX_HIGH_FRACTION = 0.05  # of the points may have a high k̂ before the mean over all is out of bounds
BETTER_METHODS = (
    "a better guide (wider than the posterior, or with its correlations), or AIS if the latents are continuous"
)


def bound_shortfall(num_samples: int, k: Tensor, ess: Tensor, deterministic_guide: bool) -> Tensor:
    """By how much the K-sample bound may be too low, (N,): 0 where its weights can be relied on, and unknown where they cannot."""
    if deterministic_guide:
        return torch.full_like(k, math.nan)
    unknown = torch.full_like(k, math.inf)
    if tail_length(num_samples) >= MIN_TAIL_DRAWS:
        unknown[ess < MIN_ESS] = math.nan
    return torch.where(_has_heavy_tail(k, ess, num_samples), unknown, 0.0)


def _has_heavy_tail(k: Tensor, ess: Tensor, num_samples: int) -> Tensor:
    """Where k̂ is above its threshold: (N,). k̂ knows no scale, so it does not count where many weights are nearly equal."""
    high = is_high_pareto_k(k, num_samples)
    return high & ~(ess > NEARLY_EQUAL_ESS * num_samples) if num_samples >= MANY_DRAWS else high


def reliability_message(
    num_samples: int, k: Tensor, ess: Tensor, jackknife_bias: float, deterministic_guide: bool
) -> str:
    """Say whether the mean of log p̂ is to be trusted. It is if at most 5 % of the points have weights with a heavy tail.

    `k` and `ess` are (N,); `jackknife_bias` is what the jackknife adds to the mean of log p̂, nats; `deterministic_guide` is a guide that draws
    nothing.
    """
    K, bad, count = num_samples, _has_heavy_tail(k, ess, num_samples), len(k)
    if deterministic_guide:
        return (
            "A bound, no estimate: the guide knows one z for each x, so all draws are one, and log p̂(x) is the ELBO, log p(x, z) at "
            "that z. log p(x) is above it by −log p(z|x), of which neither the missing Monte-Carlo error nor more samples say "
            "anything: it takes a guide that draws."
        )
    if bool((k == -math.inf).all()):
        return "Trust log p̂(x): at no point do its largest weights differ, as with an exact guide."
    if tail_length(K) < MIN_TAIL_DRAWS:
        few = "one draw is" if K == 1 else f"{K} draws are"
        return f"Do not trust log p̂(x) yet: {few} too few to see the tail of the weights; take at least 100 samples."
    limit, low = f"{pareto_k_threshold(K):.2f}", jackknife_bias
    if not bool(bad.any()):
        bias = f" It is low by about {low:.2g} nats, which the jackknife adds." if low > 5e-4 else ""
        if not bool(is_high_pareto_k(k, K).any()):
            return f"Trust log p̂(x): k̂ is below {limit} at every point (at most {float(k.max()):.2f}).{bias}"
        return (
            f"Trust log p̂(x): at every point k̂ is below {limit}, or the weights are nearly equal: their effective sample size is above "
            f"{NEARLY_EQUAL_ESS:.0%} of K.{bias}"
        )
    many = int(bad.sum())
    if many <= MAX_HIGH_FRACTION * count:
        return (
            f"Trust log p̂(x), but for {many} of {count} points: there k̂ is above {limit}, and log p̂(x) a lower bound that may "
            f"be loose. {_remedy(k[bad], K)}"
        )
    return (
        f"Do not trust log p̂(x): k̂ is above {limit} at {many} of {count} points ({many / count:.0%}; median "
        f"{float(k.median()):.2f}). There a few draws carry the weight, of {K} about {float(ess[bad].median()):.0f}: "
        f"log p̂(x) is a lower bound, loose by an unknown amount, and its Monte-Carlo error is too small. {_remedy(k[bad], K)}"
    )


def _remedy(k: torch.Tensor, num_samples: int) -> str:
    """More samples, where that helps: the threshold 1 − 1/log₁₀ K rises with K, to 0.7 and no further."""
    worst = float(k.quantile(0.9))
    if worst < 0.7:
        enough = max(10 ** (1 / (1 - worst)), 1.1 * num_samples)
        digits = 10 ** (math.floor(math.log10(enough)) - 1)
        return f"Take more samples, {math.ceil(enough / digits) * digits:,} or more, or else {BETTER_METHODS}."
    return f"More samples raise it only slowly: it takes {BETTER_METHODS}."
