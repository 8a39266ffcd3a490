"""Pareto k̂: how heavy the tail of importance weights is, and with it whether their mean can be believed.

Zhang & Stephens (2009). A new and efficient estimation method for the generalized Pareto distribution.
Vehtari, Simpson, Gelman, Yao & Gabry (2024). Pareto smoothed importance sampling.
"""

import math

import numpy as np
import torch
from torch import Tensor

EQUAL_ESS = 1e-4  # below 1 − ESS/K, weights differ by 1 % or less, and what is left may be rounding
ROUNDING_UNITS = 64  # in the last place, by which the log-densities of one point may differ and be the same number
MIN_TAIL_DRAWS = 5  # below which nothing is fitted, as in ArviZ
LOG_TINY = math.log(np.finfo(float).tiny)


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
    flat = top[0] - top[-1] <= ROUNDING_UNITS * eps * (1 + top[0].abs())
    flat |= (
        ess.cpu() >= (1 - EQUAL_ESS) * num_samples
    )  # k̂ knows no scale: it would see tails in weights that hardly differ
    k[flat] = -math.inf
    if tail >= MIN_TAIL_DRAWS and not bool(flat.all()):
        k[~flat] = torch.from_numpy(_fit(top[:, ~flat].mT.numpy(), tail))
    return k


def _fit(top: np.ndarray, tail: int) -> np.ndarray:
    """k̂ of the `tail` weights above the smallest of each row of `top`, (N, tail + 1), largest first."""
    with np.errstate(all="ignore"):
        return np.array([_shape(row - row[0], tail) for row in top])


def _shape(log_w: np.ndarray, tail: int) -> float:
    """k̂ of one point, from log-weights whose largest is 0; infinite where fewer than five are above the smallest."""
    cut = max(log_w[tail], LOG_TINY)
    excess = np.exp(log_w[log_w > cut][::-1]) - np.exp(cut)
    return _generalised_pareto_shape(excess) if len(excess) >= MIN_TAIL_DRAWS else math.inf


def _generalised_pareto_shape(x: np.ndarray) -> float:
    """Fit the shape k of a generalised Pareto distribution to x (T,) > 0, smallest first.

    The profile likelihood of θ = −k/σ is averaged over a grid: k = mean log(1 − θ x) is a function of θ alone. A prior, as
    of ten weights at ½, draws k towards ½ (Vehtari et al. 2024, appendix G).
    """
    count = len(x)
    size = 30 + int(count**0.5)
    theta = (1 - np.sqrt(size / (np.arange(1, size + 1) - 0.5))) / (3 * x[int(count / 4 + 0.5) - 1]) + 1 / x[-1]
    k = np.log1p(-theta[:, None] * x).mean(axis=1)
    log_profile = count * (np.log(-theta / k) - k - 1)
    weights = 1 / np.exp(log_profile - log_profile[:, None]).sum(axis=1)
    kept = weights >= 10 * np.finfo(float).eps
    mean = float(np.sum(theta[kept] * weights[kept]) / weights[kept].sum())
    return float((count * np.log1p(-mean * x).mean() + 10 * 0.5) / (count + 10))
