"""Pareto k̂: how heavy the tail of importance weights is, and with it whether their mean can be believed. PSIS by ArviZ."""

import math

import numpy as np
import torch
from torch import Tensor

from ..utils.export import pareto_shapes

EQUAL_ESS = 1e-4  # below 1 − ESS/K, weights differ by 1 % or less, and what is left may be rounding
ROUNDING_UNITS = 64  # in the last place, by which the log-densities of one point may differ and be the same number
MIN_TAIL_DRAWS = 6  # below which ArviZ fits nothing; before version 1 it fitted five


def tail_length(num_samples: int) -> int:
    """Return how many of the largest weights make the tail: ⌈min(K/5, 3√K)⌉ (Vehtari et al. 2024, section 3)."""
    return math.ceil(min(num_samples / 5, 3 * math.sqrt(num_samples)))


def pareto_k_threshold(num_samples: int) -> float:
    """Return min(1 − 1/log₁₀ K, 0.7): below it the mean of K weights is reliable (Vehtari et al. 2024, section 3.2.4)."""
    return min(1 - 1 / math.log10(num_samples), 0.7) if num_samples > 1 else -math.inf


def is_high_pareto_k(pareto_k: Tensor, num_samples: int) -> Tensor:
    """Return the points whose k̂ is not below its threshold, or is NaN: (N,), true or false."""
    return ~((pareto_k < pareto_k_threshold(num_samples)) | (pareto_k == -math.inf))


def pareto_k_of_largest(largest: Tensor, num_samples: int, eps: float, ess: Tensor) -> Tensor:
    """Fit `log_weights.pareto_k` to the largest log-weights alone.

    Args:
        largest: The `tail_length(num_samples)` + 1 largest log-weights or more, (M, N), largest first.
        num_samples: How many weights there are in all.
        eps: The rounding of the type of the weights.
        ess: The effective sample size of all weights, (N,).

    Returns:
        k̂ of each point, (N,), on the CPU.
    """
    tail = tail_length(num_samples)
    top = largest[: tail + 1].cpu().double()
    k = torch.full((top.shape[1],), math.nan, dtype=torch.float64)
    if num_samples < 2:
        return k
    rounding = ROUNDING_UNITS * eps * (1 + top[0].abs())
    flat = top[0] - top[-1] <= rounding
    if tail >= MIN_TAIL_DRAWS:
        flat |= (
            top[0] - top[tail - 1] <= rounding
        )  # the largest weight came often: it is a bound, and ArviZ 1 refuses to fit
    flat |= (
        ess.cpu() >= (1 - EQUAL_ESS) * num_samples
    )  # k̂ knows no scale: it would see tails in weights that hardly differ
    k[flat] = -math.inf
    if tail >= MIN_TAIL_DRAWS and not bool(flat.all()):
        k[~flat] = torch.from_numpy(_fit(top[:, ~flat].mT.numpy(), tail))
    return k


def _fit(top: np.ndarray, tail: int) -> np.ndarray:
    """ArviZ's k̂ for a tail of `tail` weights above the smallest of each row of `top`, (N, tail + 1).

    ArviZ cuts the tail at a fifth of what it is given, or sooner by the relative efficiency of the draws. So each weight of the
    tail gets four weights of zero beside it, and that efficiency is tiny. Then its cut is ours.
    """
    padded = np.full((len(top), 5 * tail), -np.inf)
    padded[:, : tail + 1] = top
    with np.errstate(all="ignore"):
        return np.asarray(pareto_shapes(padded, 1e-12), dtype=float)
