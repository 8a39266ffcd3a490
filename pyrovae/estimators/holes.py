"""Where the prior puts z and no encoding is near: a latent hole, from which a decoder has never been asked for an x."""

from typing import NamedTuple

import torch
from torch import Tensor

TAIL = 0.01  # of the encodings of other points lie below the threshold
BOOTSTRAPS = 200


class Share(NamedTuple):
    """Of draws of the prior below a threshold, with its standard error."""

    value: float
    se: float


def threshold(reference: Tensor) -> Tensor:
    """The TAIL quantile of the encodings' scores: (..., M) → (...)."""
    return reference.kthvalue(max(1, round(TAIL * reference.shape[-1]))).values


def share(scores: Tensor, reference: Tensor) -> Share:
    """The share of `scores` (K,) below the threshold of `reference` (S, N).

    scores: log q(z_k) at prior draws z_k. reference: log 1/(N−1) Σ_{m≠n} q(z_sn|x_m) at encodings z_sn of point n, which is
    what log q(z) is at the encoding of a point that was never in the sum. If the aggregate posterior of all x is the prior,
    the share is TAIL, whatever N and the dimension.

    The error is a bootstrap's, over prior draws and over points with all their encodings; it is never below one draw's share.
    """
    value = (scores < threshold(reference.flatten())).double().mean()
    points = reference.shape[1]
    again = []
    for _ in range(BOOTSTRAPS):
        kept = reference[:, torch.randint(points, (points,), device=reference.device)].flatten()
        drawn = scores[torch.randint(len(scores), (len(scores),), device=scores.device)]
        again.append((drawn < threshold(kept)).double().mean())
    return Share(float(value), max(float(torch.stack(again).std()), 1 / len(scores)))
