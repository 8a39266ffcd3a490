"""What log-weights say about log p(x): tensor functions of log w (samples, N), in nats per data point. No Pyro here."""

import math

import torch
from torch import Tensor

from ..errors import InvalidInputError
from .bound_curve import BoundCurve, BoundCurveAccumulator
from .pareto import pareto_k_of_largest, tail_length

# What follows from the weights alone, a number for each point.
STATISTICS = (
    *("elbo", "elbo_se", "log_likelihood", "log_likelihood_se", "log_likelihood_jackknife"),
    *("gap_se", "ess", "pareto_k"),
)


def elbo(log_w: Tensor) -> Tensor:
    """L = E_q[log w], estimated by the mean over samples. (samples, N) → (N,), nats."""
    return log_w.mean(dim=0)


def log_likelihood(log_w: Tensor) -> Tensor:
    """log p̂ = log (1/K) Σ_s w_s, K the number of rows. (samples, N) → (N,), nats.

    A lower bound on log p(x) in expectation that tightens as K grows (Burda, Grosse & Salakhutdinov 2016, theorem 1).
    """
    return torch.logsumexp(log_w, dim=0) - math.log(len(log_w))


def log_likelihood_se(log_w: Tensor) -> Tensor:
    """Standard error of log p̂ over its draws, by the delta method: sd(w) / (√K mean(w)). (samples, N) → (N,), nats.

    It is as good as the weights' second moment; where the ESS is a handful it is too small. Raises `InvalidInputError` for one sample.
    """
    num_samples = _at_least_two(log_w)
    return ((num_samples / ess(log_w) - 1).clamp(min=0) / (num_samples - 1)).sqrt()


def log_likelihood_jackknife(log_w: Tensor) -> Tensor:
    """K log p̂ − (K−1) (1/K) Σ_s log p̂₋ₛ, log p̂₋ₛ without draw s: log p̂ less its bias of order 1/K. (samples, N) → (N,), nats.

    Its own bias is of order 1/K² where the weights have moments enough (Quenouille 1956; Nowozin 2018, JVI₁). It is no bound,
    and where one draw carries nearly all the weight it overshoots. Raises `InvalidInputError` for one sample.
    """
    num_samples = _at_least_two(log_w)
    ranked = log_w.sort(dim=0, descending=True).values
    rest = torch.log1p(-(ranked - torch.logsumexp(ranked, dim=0)).exp())  # log (1 − w_s / Σ w)
    rest[0] = torch.logsumexp(ranked[1:], dim=0) - torch.logsumexp(ranked, dim=0)  # of the largest, where 1 − r cancels
    return log_likelihood(log_w) - (num_samples - 1) * (rest.mean(dim=0) - math.log1p(-1 / num_samples))


def elbo_se(log_w: Tensor) -> Tensor:
    """Standard error of the ELBO over its draws: sd(log w) / √K. (samples, N) → (N,), nats. Raises `InvalidInputError` for one."""
    num_samples = _at_least_two(log_w)
    return log_w.std(dim=0) / math.sqrt(num_samples)


def gap_se(log_w: Tensor) -> Tensor:
    """Standard error of log p̂ − L, both from the same draws: sd(w / mean(w) − log w) / √K. (samples, N) → (N,), nats.
    Raises `InvalidInputError` for one sample."""
    num_samples = _at_least_two(log_w)
    influence = (log_w - log_likelihood(log_w)).exp() - log_w
    return influence.std(dim=0) / math.sqrt(num_samples)


def ess(log_w: Tensor) -> Tensor:
    """Effective sample size (Σ w)² / Σ w², between 1 and K. (samples, N) → (N,). Kong 1992."""
    w = log_w - log_w.max(dim=0).values  # relative to the largest: thousands of nats cost no digits
    return (2 * torch.logsumexp(w, dim=0) - torch.logsumexp(2 * w, dim=0)).exp()


def pareto_k(log_w: Tensor) -> Tensor:
    """k̂, the index of a Pareto tail fitted to the ⌈min(K/5, 3√K)⌉ largest weights by ArviZ. (samples, N) → (N,), on the CPU.

    Weights with a tail of index k have moments below 1/k: their mean is safe while k̂ is below `pareto_k_threshold(num_samples)`
    (Vehtari et al. 2024). −∞ where the largest weights are equal to rounding (no tail: an exact guide); +∞ where too few stand out for a
    fit; NaN where there are too few draws to say, K ≤ 20. k̂ knows only what was drawn: nothing of a mode that the guide never
    visits. Raises `InvalidInputError` for one sample.
    """
    num_samples = _at_least_two(log_w)
    largest = log_w.topk(min(num_samples, tail_length(num_samples) + 1), dim=0).values
    return pareto_k_of_largest(largest, num_samples, torch.finfo(log_w.dtype).eps)


def bound_curve(log_w: Tensor) -> BoundCurve:
    """L_K for K = 1, 10, 100, … and all of the draws: the mean of log (1/K) Σ w over disjoint blocks of K consecutive draws,
    with the standard error of that mean; for all of them log p̂ and its error. (samples, N) → values (len(K), N), nats.

    It rises from the ELBO at K = 1 towards log p(x), by χ²(p ‖ q)/2K once K is large, where χ² is finite: a curve that still
    rises at its end has not arrived. A K that is not the last has two blocks at least.
    """
    accumulator = BoundCurveAccumulator(len(log_w))
    accumulator.add(log_w)
    se = log_likelihood_se(log_w) if len(log_w) > 1 else torch.full_like(log_w[0], math.nan)
    return accumulator.curve(log_likelihood(log_w), se)


def _at_least_two(log_w: Tensor) -> int:
    if len(log_w) < 2:
        raise InvalidInputError("One draw has no error: take at least 2 samples, or ask for the estimate alone.")
    return len(log_w)
