"""An upper bound on log p(x) without an exact draw of the posterior: two coupled chains of resampling.

The bound needs z₀ ~ p(z|x). Iterated sampling importance resampling is a Markov chain whose draws tend to p(z|x). Two such chains,
one a step behind the other, share their proposals and their noise, and so meet. Once they have met, the sum of their differences
removes the bias of the chain's start, in expectation (Glynn & Rhee 2014; Ruiz, Titsias, Cemgil & Doucet 2021).

A chain's next state depends on its present one by the weight alone. So all is done on log-weights, and nothing here knows Pyro.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# (number of draws, mask (N,) of the n points that need them) → independent log-weights (draws, n), nats, in double precision
DrawWeights = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class Replicate:
    """One independent estimate of both bounds: tensors (N,)."""

    lower: Tensor  # log p̂(x), nats
    upper: Tensor  # nats; infinite where the chains have not met
    num_steps: Tensor  # steps until the chains met


def coupled_bounds(draw: DrawWeights, points: Tensor, num_samples: int, max_steps: int) -> Replicate:
    """Estimate log p(x) from below and from above, once, for each of N points.

    With w_k = p(x, z_k) / q(z_k), z_k ~ q independent, K = `num_samples`:
    lower = log (1/K) Σ_{k≤K} w_k, whose mean is at most log p(x) (Burda, Grosse & Salakhutdinov 2016).
    upper = f(X₁) + Σ_{t≥2} [f(X_t) − f(Y_{t−1})], f(z) = log (w(z) + Σ_{k<K} w_k) / K. The sum ends where X_t = Y_{t−1}. The mean
    of `upper` is that of f(z₀), z₀ ~ p(z|x), which is at least log p(x).

    The draws must be independent of one another. Draws with a fixed number from each part of q, as `ModeMixture.weigh` has them,
    would not do. K − 1 of them beside z₀ are then too many of one part or another. So the chain does not tend to p(z|x).

    Args:
        draw: Returns log-weights (draws, n) of a number of fresh draws for the points of a mask.
        points: A mask (N,) of ones, on the device of the weights.
        num_samples: K, at least 2. A chain chooses among K − 1 proposals and its present state.
        max_steps: After so many steps a point whose chains have not met gets no upper bound: it is infinite.
    """
    nowhere = torch.full(points.shape, -torch.inf, dtype=torch.float64, device=points.device)
    x, _, _ = _step(nowhere, nowhere, draw(num_samples - 1, points))  # X₀, by resampling alone
    x, y, met = _step(x, nowhere, draw(num_samples - 1, points))  # X₁ and Y₀, which is distributed as X₀ is
    weights = draw(num_samples, points)
    # Both bounds have the same draws, so that most of their noise cancels in the width.
    upper = _log_mean_with(x, weights[1:])
    num_steps = torch.ones_like(points, dtype=torch.long)
    for _ in range(max_steps - 1):
        if bool(met.all()):
            break
        apart = ~met
        x[apart], y[apart], met[apart] = _step(x[apart], y[apart], draw(num_samples - 1, apart))
        num_steps[apart] += 1
        if not bool((apart := ~met).any()):
            break
        fresh = draw(num_samples - 1, apart)
        upper[apart] += _log_mean_with(x[apart], fresh) - _log_mean_with(y[apart], fresh)
    lower = weights.logsumexp(0) - math.log(num_samples)
    return Replicate(lower, torch.where(met & upper.isfinite(), upper, torch.inf), num_steps)


def _step(x: Tensor, y: Tensor, proposals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Move both chains: to a proposal or to where they are, with probabilities proportional to the weights.

    The largest of log w + Gumbel noise is such a choice. Both chains have the same noise, so that mostly they choose the same
    proposal, and have met. x, y are log-weights (n,) of the states, and −inf for a chain without one; proposals (draws, n).
    """
    best, index = (proposals + _gumbel(proposals)).max(0)
    own = _gumbel(x)
    x_stays, y_stays = x + own > best, y + own > best
    chosen = proposals.gather(0, index.unsqueeze(0)).squeeze(0)
    met = ~x_stays & ~y_stays & chosen.isfinite()
    return torch.where(x_stays, x, chosen), torch.where(y_stays, y, chosen), met


def _gumbel(like: Tensor) -> Tensor:
    return -torch.empty_like(like).exponential_().log()


def _log_mean_with(state: Tensor, log_w: Tensor) -> Tensor:
    """f: log of the mean of the state's weight and the others', (n,) and (K − 1, n) → (n,)."""
    return torch.logaddexp(state, log_w.logsumexp(0)) - math.log(len(log_w) + 1)
