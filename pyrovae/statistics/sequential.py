"""Decide which of two means is higher while draws keep coming, with an error rate that holds over all looks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from statistics import NormalDist
from typing import NamedTuple

from ..errors import InvalidInputError


class NoisyMean(NamedTuple):
    """A mean with its Monte-Carlo error, and by how much it may be too low: infinite or NaN where that is unknown."""

    value: float
    se: float
    shortfall: float = 0.0


class PairDecision(NamedTuple):
    """What is known of mean(first) − mean(second): the interval of the look that decided, or of the last one."""

    first: str
    second: str
    relation: str  # ">", "<", "=" for a tie at the tolerance, "?" for open
    low: float
    high: float


@dataclass
class SequentialOrder:
    """Which of several means is higher, for each two, after each look at better estimates.

    All statements together are wrong with probability at most `error_rate`, however many looks there are. Look r has an interval for each
    of the P differences that misses with probability error_rate / (2^r P). The sum over looks and differences is at most the
    error rate (alpha spending; Bonferroni). A difference is a tie where its interval lies within ± `tie_tolerance`, and an order
    where it does not hold 0. What is decided stays.

    The looks' estimates may depend on each other in any way. Each must be close to normal, with the standard error that it
    states.
    """

    names: tuple[str, ...]
    tie_tolerance: float
    error_rate: float = 0.05
    looks: int = 0
    decisions: dict[tuple[str, str], PairDecision] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.error_rate < 1:
            raise InvalidInputError(f"error_rate is {self.error_rate!r:.40}: give a probability such as 0.05.")
        if not 0 <= self.tie_tolerance < math.inf:
            raise InvalidInputError(f"tie_tolerance is {self.tie_tolerance!r:.40}: give nats per point, such as 0.01.")
        for pair in combinations(self.names, 2):
            self.decisions[pair] = PairDecision(*pair, "?", -math.inf, math.inf)

    @property
    def open_names(self) -> set[str]:
        """The names that an open difference needs better estimates of."""
        return {name for pair, decision in self.decisions.items() if decision.relation == "?" for name in pair}

    def look(self, means: Mapping[str, NoisyMean]) -> None:
        """Decide what these estimates allow: of every name the newest one."""
        self.looks += 1
        level = self.error_rate / 2**self.looks / max(1, len(self.decisions))
        quantile = -NormalDist().inv_cdf(level / 2)
        for (first, second), decision in self.decisions.items():
            if decision.relation != "?":
                continue
            a, b = means[first], means[second]
            width = quantile * math.hypot(a.se, b.se)
            # either may be higher by its shortfall
            low = a.value - b.value - width - known_shortfall(b.shortfall)
            high = a.value - b.value + width + known_shortfall(a.shortfall)
            self.decisions[first, second] = PairDecision(first, second, self._relation(low, high), low, high)

    def _relation(self, low: float, high: float) -> str:
        if -self.tie_tolerance <= low and high <= self.tie_tolerance:
            return "="
        return ">" if low > 0 else "<" if high < 0 else "?"


def known_shortfall(shortfall: float) -> float:
    """Infinite where it is unknown."""
    return math.inf if math.isnan(shortfall) else shortfall
