"""decide(): draw on where the order of models is still open, and end in an order with a stated error rate."""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInputError, check_int
from ..statistics.estimate import without_logarithm_bias
from ..statistics.paired_tests import student_t_quantile
from ..statistics.sequential import NoisyMean, PairDecision, SequentialOrder, known_shortfall
from ..utils.export import json_number
from ..utils.provenance import data_hash
from ..utils.random import derived_seed
from .comparison import Comparison
from .evaluating import TOLERANCE, evaluate
from .methods import EXACT, IMPORTANCE_SAMPLING
from .result import Evidence
from .trained_pair import Pair, TrainedPair

MAX_UNKNOWN_FRACTION = 0.05  # of the points, that are left out where log p̂(x) may be too low by an unknown amount
BOUND_SAMPLES = 16  # of the guide, for the ELBO, which no decision needs


@dataclass(frozen=True)
class Decision:
    """The order of models by mean log p(x) on the same points, from `decide`.

    `names` are in the order of their last means, highest first. `decisions` has an entry for each two of them. All its statements
    together are wrong with probability at most `error_rate`, given that the estimates are reliable. `new_points` are intervals
    of the differences of neighbours in the order, for the mean over all points from the same source. Together they miss with
    probability at most `error_rate` too.
    """

    names: tuple[str, ...]
    decisions: Mapping[tuple[str, str], PairDecision]
    tie_tolerance: float
    error_rate: float
    looks: int
    num_points: int
    new_points: Mapping[tuple[str, str], tuple[float, float]]

    def relation(self, name: str, other: str) -> str:
        """Return ">", "<", "=" for a tie at the tolerance, or "?" where it is open."""
        if (name, other) in self.decisions:
            return self.decisions[name, other].relation
        return {">": "<", "<": ">"}.get(found := self.decisions[other, name].relation, found)

    @property
    def message(self) -> str:
        """The order, what is tied or open in it, and what holds for new points."""
        order = self.names[0] + "".join(f" {self.relation(a, b)} {b}" for a, b in pairwise(self.names))
        sentences = [
            f"Order on {self.num_points} points, wrong with probability at most {self.error_rate:.0%}: {order}."
        ]
        ties = [decision for decision in self.decisions.values() if decision.relation == "="]
        sentences += [f"{each.first} = {each.second}: a tie at {self.tie_tolerance:g} nats." for each in ties]
        for each in self.decisions.values():
            if each.relation == "?":
                interval = f"{each.low:.3g} to {each.high:.3g} nats"
                sentences.append(f"{each.first} ? {each.second}: open after {self.looks} looks, {interval}.")
        holds = [f"{a} > {b}" for (a, b), (low, _) in self.new_points.items() if low > 0]
        told = ", ".join(holds) or "no difference between neighbours"
        sentences.append(f"For new points from the same source, at the same error rate: {told}.")
        return " ".join(sentences)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; an end of an interval that is not finite is None."""
        return {
            "order": list(self.names),
            "tie_tolerance": self.tie_tolerance,
            "error_rate": self.error_rate,
            "looks": self.looks,
            "num_points": self.num_points,
            "decisions": [
                {key: json_number(value) for key, value in each._asdict().items()} for each in self.decisions.values()
            ],
            "new_points": [
                {"first": a, "second": b, "low": json_number(low), "high": json_number(high)}
                for (a, b), (low, high) in self.new_points.items()
            ],
            "message": self.message,
        }


def decide(
    comparison: Comparison,
    pairs: Mapping[str, Pair],
    x: Tensor,
    seed: int = 0,
    *,
    tie_tolerance: float = 0.01,
    error_rate: float = 0.05,
    max_looks: int = 5,
    on_look: Callable[[int, list[str]], None] | None = None,
) -> Decision:
    """Order models by mean log p(x) on the points x, with more draws only where the order is still open.

    The first look is at the comparison. After each look, the models of an open difference are scored again from fresh
    draws, with half the standard error. Models with an exact log p(x) need no draws. Every estimate is raised by half
    of its variance, which is what the logarithm of an unbiased estimate loses in the second order. A mean that is
    only a lower bound decides nothing that its shortfall could change.

    Args:
        comparison: What `compare` returned for these pairs, to a tolerance.
        pairs: The pairs of the comparison, by name.
        x: The points of the comparison.
        seed: Of the draws.
        tie_tolerance: The difference in nats per point that does not matter.
        error_rate: The probability that any statement of the order is wrong.
        max_looks: After so many looks, what is open stays open.
        on_look: Called before models are scored again, with the number of the look and their names.

    Returns:
        A `Decision`. Its order is that of the trained models on these points. `new_points` says what holds beyond them.

    Raises:
        InvalidInputError: A pair of the comparison is missing; x are other points; the comparison is of trainings or
            of bounds.

    Example:
        >>> import pyrovae, torch
        >>> x = torch.randn(20, 3)
        >>> pairs = {"ppca": pyrovae.load("ppca")(3, latent=1), "gaussian": pyrovae.load("gaussian")(3)}
        >>> decision = pyrovae.decide(pyrovae.compare(pairs, x), pairs, x)
    """
    names = tuple(comparison.evidence)
    evidence = dict(comparison.evidence)
    _check(comparison, pairs, x)
    check_int("max_looks", max_looks, 1)
    order = SequentialOrder(names, tie_tolerance, error_rate)
    rows = _known_points(evidence)
    order.look({name: _mean(evidence[name], rows) for name in names})
    while order.open_names and order.looks < max_looks:
        active = [name for name in names if name in order.open_names and set(evidence[name].method) != {EXACT}]
        if not active:
            break
        if on_look:
            on_look(order.looks + 1, active)
        for name in active:
            own_seed = derived_seed(seed, zlib.crc32(f"{name}, look {order.looks + 1}".encode()))
            evidence[name] = _better(evidence[name], pairs[name], x, own_seed)
        order.look({name: _mean(evidence[name], rows) for name in names})
    ranked = tuple(sorted(names, key=lambda name: -_mean(evidence[name], rows).value))
    miss = error_rate / max(1, len(order.decisions))  # of all differences, because the data choose which are neighbours
    intervals = {(a, b): _interval(evidence[a], evidence[b], rows, miss) for a, b in pairwise(ranked)}
    return Decision(ranked, order.decisions, tie_tolerance, error_rate, order.looks, len(rows), intervals)


def _check(comparison: Comparison, pairs: Mapping[str, Pair], x: Tensor) -> None:
    if missing := [name for name in comparison.evidence if name not in pairs]:
        raise InvalidInputError(f"There is no pair for {', '.join(missing)}: give every pair of the comparison.")
    first = next(iter(comparison.evidence.values()))
    if first.data_hash != data_hash(x):
        raise InvalidInputError("These are other points than those of the comparison: give the same x.")
    if comparison.trainings:
        raise InvalidInputError("An order is of one training of each pair: compare without repeated trainings.")
    if first.tolerance is None:
        raise InvalidInputError("An order needs log p(x) to a tolerance: compare without num_samples.")


def _known_points(evidence: Mapping[str, Evidence]) -> Tensor:
    """The rows at which every estimate says by how much it may be too low; all, if these are too few."""
    unknown = torch.stack([~each.shortfall.isfinite() for each in evidence.values()]).any(0)
    if float(unknown.double().mean()) > MAX_UNKNOWN_FRACTION:
        unknown = torch.zeros_like(unknown)
    return (~unknown).nonzero().flatten()


def _values(evidence: Evidence) -> Tensor:
    return without_logarithm_bias(evidence.log_likelihood, evidence.log_likelihood_se)


def _mean(evidence: Evidence, rows: Tensor) -> NoisyMean:
    se = evidence.log_likelihood_se[rows].double()
    shortfall = float(evidence.shortfall[rows].double().mean())
    return NoisyMean(float(_values(evidence)[rows].mean()), float(se.square().sum().sqrt()) / len(rows), shortfall)


def _better(evidence: Evidence, pair: Pair, x: Tensor, seed: int) -> Evidence:
    """The same model from fresh draws, with half the standard error: four times the draws."""
    model, guide = (pair.model, pair.guide) if isinstance(pair, TrainedPair) else pair
    tolerance = (evidence.tolerance or TOLERANCE) / 2
    is_guide = set(evidence.method) == {IMPORTANCE_SAMPLING}
    num_samples = 4 * evidence.num_samples if is_guide else BOUND_SAMPLES
    return evaluate(model, guide, x, num_samples, seed, tolerance=tolerance)


def _interval(a: Evidence, b: Evidence, rows: Tensor, miss: float) -> tuple[float, float]:
    """Of the mean difference over all points from the same source. The draws' noise is part of the spread over points."""
    difference = (_values(a) - _values(b))[rows]
    if len(rows) < 2:
        return -math.inf, math.inf
    width = student_t_quantile(1 - miss / 2, len(rows) - 1) * float(difference.std()) / math.sqrt(len(rows))
    center = float(difference.mean())
    # either may be higher by its shortfall
    low, high = (float(each.shortfall[rows].double().mean()) for each in (b, a))
    return center - width - known_shortfall(low), center + width + known_shortfall(high)
