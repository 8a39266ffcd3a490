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
    """Estimate the ELBO, L = E_q[log w], by the mean over samples.

    Args:
        log_w: Log-weights (samples, N), from `log_weights`.

    Returns:
        L of each point, (N,), nats.

    Example:
        >>> import pyrovae, torch
        >>> pyrovae.elbo(torch.tensor([[0.0], [-2.0]]))
        tensor([-1.])
    """
    return log_w.mean(dim=0)


def log_likelihood(log_w: Tensor) -> Tensor:
    """Estimate log p(x) by log p̂ = log (1/K) Σ_s w_s, where K is the number of samples.

    In expectation it is a lower bound on log p(x), which becomes tighter as K grows.

    Args:
        log_w: Log-weights (K, N), from `log_weights`.

    Returns:
        log p̂ of each point, (N,), nats.

    References:
        Burda, Grosse & Salakhutdinov (2016). Importance weighted autoencoders. Theorem 1.

    Example:
        >>> import pyrovae, torch
        >>> pyrovae.log_likelihood(torch.tensor([[1.0], [3.0]]).log()).exp()  # the mean weight
        tensor([2.])
    """
    return torch.logsumexp(log_w, dim=0) - math.log(len(log_w))


def log_likelihood_se(log_w: Tensor) -> Tensor:
    """Return the standard error of log p̂ over its draws, by the delta method: sd(w) / (√K mean(w)).

    It depends on the second moment of the weights. Where the ESS is small, it is too small.

    Args:
        log_w: Log-weights (K, N), from `log_weights`.

    Returns:
        The standard error of each point, (N,), nats.

    Raises:
        InvalidInputError: There is only one sample.
    """
    num_samples = _at_least_two(log_w)
    return ((num_samples / ess(log_w) - 1).clamp(min=0) / (num_samples - 1)).sqrt()


def log_likelihood_jackknife(log_w: Tensor) -> Tensor:
    """Correct log p̂ for its bias of order 1/K: K log p̂ − (K−1) (1/K) Σ_s log p̂₋ₛ, where log p̂₋ₛ is without draw s.

    Its own bias is of order 1/K², if the weights have enough moments. It is no bound. Where one draw has nearly all
    of the weight, it is too high.

    Args:
        log_w: Log-weights (K, N), from `log_weights`.

    Returns:
        The corrected log p̂ of each point, (N,), nats.

    Raises:
        InvalidInputError: There is only one sample.

    References:
        Quenouille (1956). Notes on bias in estimation.
        Nowozin (2018). Debiasing evidence approximations. The estimator JVI₁.
    """
    num_samples = _at_least_two(log_w)
    ranked = log_w.sort(dim=0, descending=True).values
    rest = torch.log1p(-(ranked - torch.logsumexp(ranked, dim=0)).exp())  # log (1 − w_s / Σ w)
    rest[0] = torch.logsumexp(ranked[1:], dim=0) - torch.logsumexp(ranked, dim=0)  # of the largest, where 1 − r cancels
    return log_likelihood(log_w) - (num_samples - 1) * (rest.mean(dim=0) - math.log1p(-1 / num_samples))


def elbo_se(log_w: Tensor) -> Tensor:
    """Return the standard error of the ELBO over its draws: sd(log w) / √K.

    Args:
        log_w: Log-weights (K, N), from `log_weights`.

    Returns:
        The standard error of each point, (N,), nats.

    Raises:
        InvalidInputError: There is only one sample.
    """
    num_samples = _at_least_two(log_w)
    return log_w.std(dim=0) / math.sqrt(num_samples)


def gap_se(log_w: Tensor) -> Tensor:
    """Return the standard error of log p̂ − L, both from the same draws: sd(w / mean(w) − log w) / √K.

    Args:
        log_w: Log-weights (K, N), from `log_weights`.

    Returns:
        The standard error of each point, (N,), nats.

    Raises:
        InvalidInputError: There is only one sample.
    """
    num_samples = _at_least_two(log_w)
    influence = (log_w - log_likelihood(log_w)).exp() - log_w
    return influence.std(dim=0) / math.sqrt(num_samples)


def ess(log_w: Tensor) -> Tensor:
    """Compute the effective sample size (Σ w)² / Σ w².

    Args:
        log_w: Log-weights (K, N), from `log_weights`.

    Returns:
        The ESS of each point, (N,), between 1 and K.

    References:
        Kong (1992). A note on importance sampling using standardized weights.

    Example:
        >>> import pyrovae, torch
        >>> pyrovae.ess(torch.zeros(10, 1))  # ten equal weights
        tensor([10.])
    """
    w = log_w - log_w.max(dim=0).values  # relative to the largest: thousands of nats cost no digits
    return (2 * torch.logsumexp(w, dim=0) - torch.logsumexp(2 * w, dim=0)).exp()


def pareto_k(log_w: Tensor) -> Tensor:
    """Fit k̂, the index of a Pareto tail, to the ⌈min(K/5, 3√K)⌉ largest weights. ArviZ does the fit.

    Weights with a tail of index k have moments below 1/k. Their mean is reliable while k̂ is below
    `pareto_k_threshold(num_samples)`. k̂ depends on the draws alone: it does not show a mode that the guide never
    visits.

    Args:
        log_w: Log-weights (K, N), from `log_weights`.

    Returns:
        k̂ of each point, (N,), on the CPU. −∞ where the largest weights are equal up to rounding, or all differ by
        1 % or less, as with an exact guide. +∞ where too few stand out for a fit. NaN where K ≤ 20.

    Raises:
        InvalidInputError: There is only one sample.

    References:
        Vehtari, Simpson, Gelman, Yao & Gabry (2024). Pareto smoothed importance sampling.
    """
    num_samples = _at_least_two(log_w)
    largest = log_w.topk(min(num_samples, tail_length(num_samples) + 1), dim=0).values
    return pareto_k_of_largest(largest, num_samples, torch.finfo(log_w.dtype).eps, ess(log_w.double()))


def bound_curve(log_w: Tensor) -> BoundCurve:
    """Compute L_K, the mean of log (1/K) Σ w over disjoint blocks of K consecutive draws, for K = 1, 10, 100, ….

    The last K is all draws, and there L_K is log p̂. Any other K has two blocks or more. L_K rises from the ELBO at K
    = 1 towards log p(x). It is short of it by χ²(p ‖ q)/2K once K is large, if χ² is finite. A curve that still rises
    at its end has not converged.

    Args:
        log_w: Log-weights (samples, N), from `log_weights`.

    Returns:
        The bounds and their standard errors, (len(K), N) each, nats, and the values of K.
    """
    accumulator = BoundCurveAccumulator(len(log_w))
    accumulator.add(log_w)
    se = log_likelihood_se(log_w) if len(log_w) > 1 else torch.full_like(log_w[0], math.nan)
    return accumulator.curve(log_likelihood(log_w), se)


def _at_least_two(log_w: Tensor) -> int:
    if len(log_w) < 2:
        raise InvalidInputError("One draw has no error: take at least 2 samples, or ask for the estimate alone.")
    return len(log_w)
