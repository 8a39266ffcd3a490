"""Holes in the prior: regions where the prior puts z and no encoding is near, so the decoder was never trained there."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InvalidInputError
from ..pair.latent_rows import Rows
from ..pair.structure import Structure
from .aggregate_posterior import Aggregate

TAIL_FRACTION = 0.01  # of the encodings of other points lie below the threshold
NUM_BOOTSTRAPS = 200
NUM_PAIRS = 1000  # of points, whose midpoints are looked at


class Proportion(NamedTuple):
    """Of draws of the prior below a threshold, with its standard error."""

    value: float
    se: float


@dataclass(frozen=True)
class PriorHoles:
    """Draws of the prior, and how near encodings come to them.

    A score is log q(z), nats. z is in a hole if its score is below `threshold`, which 1 % of encodings z ~ q(z|x_n)
    have under the q of the other points. If the aggregate posterior of all x were the prior, 1 % of prior draws would
    be in holes, for any N.
    """

    latents: Rows  # of the prior draws: for each latent (K, ...)
    scores: Tensor  # log q(z_k), (K,)
    reference: Tensor  # log 1/(N−1) Σ_{m≠n} q(z_sn|x_m) at encodings, (S, N)
    threshold: float
    share: Proportion  # of prior draws in holes
    pairs: Tensor | None  # (P, 2) points, and halfway between their posterior means
    midpoints: Tensor | None  # the scores there, without the q of the two, (P,)
    midpoint_share: Proportion | None  # of such boundary samples in holes


def threshold(reference: Tensor) -> Tensor:
    """The TAIL_FRACTION quantile of the encodings' scores: (..., M) → (...)."""
    return reference.kthvalue(max(1, round(TAIL_FRACTION * reference.shape[-1]))).values


def fraction_below(scores: Tensor, reference: Tensor) -> Proportion:
    """The fraction of `scores` (K,) below the threshold of `reference` (S, N).

    scores: log q(z_k) at prior draws z_k. reference: log 1/(N−1) Σ_{m≠n} q(z_sn|x_m) at encodings z_sn of point n. That is
    log q(z) at the encoding of a point that is not in the sum. If the aggregate posterior of all x is the prior,
    the fraction is TAIL_FRACTION, whatever N and the dimension.

    The error is a bootstrap's, over prior draws and over points with all their encodings; it is never below that of one draw.
    """
    value = (scores < threshold(reference.flatten())).double().mean()
    points = reference.shape[1]
    resampled = []
    for _ in range(NUM_BOOTSTRAPS):
        encodings = reference[:, torch.randint(points, (points,), device=reference.device)].flatten()
        drawn = scores[torch.randint(len(scores), (len(scores),), device=scores.device)]
        resampled.append((drawn < threshold(encodings)).double().mean())
    return Proportion(float(value), max(float(torch.stack(resampled).std()), 1 / len(scores)))


def find_holes(
    aggregate: Aggregate, reference: Tensor, prior: Rows, means: Rows, structure: Structure
) -> tuple[PriorHoles | None, list[str]]:
    """The holes of a prior from rows of its draws, and of the midpoints of posterior means; or None, and a sentence why.

    `reference` (S, N): log 1/(N−1) Σ_{m≠n} q(z_sn|x_m).
    """
    if all(latent.discrete for latent in structure.latents if not latent.summed_out):
        return None, [
            "Discrete latents have no space between encodings: no holes and no boundary samples are looked for."
        ]
    if reference.numel() < 1 / TAIL_FRACTION:
        return None, [f"{reference.numel()} encodings have no {TAIL_FRACTION:.0%} quantile: no holes are looked for."]
    points, level = reference.shape[1], float(threshold(reference.flatten()))
    if level == -math.inf:
        return None, ["Encodings lie outside the support of every other point's q(z|x): no holes are looked for."]
    try:
        scores = aggregate.log_sum(prior) - math.log(points)
    except InvalidInputError as error:
        return None, [f"No holes are looked for: {error}"]
    pairs = midpoints = midpoint_share = None
    if points > 2 and not any(latent.discrete for latent in structure.latents if not latent.summed_out):
        one = torch.randint(points, (NUM_PAIRS,), device=reference.device)
        other = (one + torch.randint(1, points, (NUM_PAIRS,), device=reference.device)) % points
        pairs = torch.stack([one, other], dim=1)
        halfway = {name: value[pairs].mean(1) for name, value in means.items()}
        midpoints = aggregate.log_sum(halfway, pairs) - math.log(points - 2)
        midpoint_share = fraction_below(midpoints, reference)
    return PriorHoles(
        latents={name: value.cpu() for name, value in prior.items()},
        scores=scores.cpu(),
        reference=reference.cpu(),
        threshold=level,
        share=fraction_below(scores, reference),
        pairs=None if pairs is None else pairs.cpu(),
        midpoints=None if midpoints is None else midpoints.cpu(),
        midpoint_share=midpoint_share,
    ), []
