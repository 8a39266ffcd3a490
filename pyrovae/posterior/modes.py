"""The different modes of the posterior p(u|x) of every point, made of the ends of climbs from several starts."""

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .climbing import SAME_MODE_DISTANCE, Ends

# Standard deviations. Ends that are closer do not show that modes were missed: near a kink, climbs end at different places.
NEIGHBOUR_DISTANCE = 1.0
UNFINISHED_DISTANCE = 3.0  # standard deviations, within which an unfinished climb is taken to lead to a mode
MAX_SHARE_FOUND_ONCE = 0.05  # of a point's starts may end where no other start comes near


@dataclass(frozen=True)
class Modes:
    """Up to M different modes of each point, highest first. Where a point has fewer, `exists` is False. In double precision."""

    location: Tensor  # (M, N, d)
    log_density: Tensor  # (M, N), log p(x, u) there
    precision: Tensor  # (M, N, d, d), −∇² log p(x, u) there, its eigenvalues made positive
    exists: Tensor  # (M, N)
    num_starts: Tensor  # (M, N), how many starts ended there
    found_once: Tensor  # (M, N), whether only one start ended there or within `NEIGHBOUR_DISTANCE`
    at_rest: Tensor  # (M, N), whether Newton's steps from one of them came to an end there
    arrived: Tensor  # (N,), whether Newton's steps from some start came to an end

    @property
    def share_found_once(self) -> Tensor:
        """The share of starts that end where no other comes near: (N,). It estimates the mass of modes not found (Good 1953)."""
        once = (self.exists & self.found_once).sum(0).double()
        return once / self.num_starts.sum(0).clamp(min=1)

    @property
    def shortfall(self) -> Tensor:
        """By how much log p(x) may be too low for modes that no start found, nats: (N,)."""
        return -torch.log1p(-self.share_found_once * (self.share_found_once > MAX_SHARE_FOUND_ONCE))

    @property
    def log_masses(self) -> Tensor:
        """Laplace's log of each mode's part of p(x), log p(x, mode) |2π H⁻¹|^½: (M, N), −∞ where there is no mode."""
        d = self.location.shape[-1]
        log_masses = self.log_density + 0.5 * (d * math.log(2 * math.pi) - torch.logdet(self.precision))
        return torch.where(self.exists, log_masses, -torch.inf)

    @property
    def log_mass(self) -> Tensor:
        """log p(x) by Laplace's method, the sum over the modes: (N,)."""
        return self.log_masses.logsumexp(0)

    def mass_missed_by(self, other: "Modes") -> Tensor:
        """By how much log p(x) is lower without the modes that the other has not, by Laplace's method, nats: (N,).

        The masses are this search's in both sums. Two climbs to one mode end at places that differ a little. So their masses
        differ, though no mode is missing.
        """
        found = torch.zeros_like(self.exists)
        for location, exists in zip(other.location, other.exists, strict=True):
            offset = self.location - location
            distance = torch.einsum("mnd,mnde,mne->mn", offset, self.precision, offset)
            found |= exists & (distance < SAME_MODE_DISTANCE**2)
        return self.log_mass - torch.where(found, self.log_masses, -torch.inf).logsumexp(0)

    def replaced(self, rows: Tensor, other: "Modes") -> "Modes":
        """With the other's modes at the points that the mask `rows` (N,) names."""
        count = max(len(self.exists), len(other.exists))
        mine, theirs = self._padded(count), other._padded(count)
        values = {part.name: getattr(mine, part.name).clone() for part in fields(self)}
        for name, value in values.items():
            value[rows if name == "arrived" else (slice(None), rows)] = getattr(theirs, name)
        return Modes(**values)

    def _padded(self, count: int) -> "Modes":
        """With room for `count` modes: what is added does not exist, and stands where the highest mode is."""
        index = torch.arange(count, device=self.exists.device)
        index = torch.where(index < len(self.exists), index, 0)
        added = (index == 0).unsqueeze(-1)
        added[0] = False
        by_mode = [part.name for part in fields(self) if part.name != "arrived"]
        padded = replace(self, **{name: getattr(self, name)[index] for name in by_mode})
        return replace(
            padded,
            exists=padded.exists & ~added,
            num_starts=torch.where(added, 0, padded.num_starts),
            at_rest=padded.at_rest & ~added,
        )

    def without_unfinished(self) -> "Modes":
        """Leave out a mode where no climb came to rest, within `UNFINISHED_DISTANCE` of one where some did: it was on its way there.

        For a proposal such a mode does no harm. Its mass is that of the mode beside it, though, and would count twice.
        """
        unfinished = torch.zeros_like(self.exists)
        for centre, precision, reached in zip(self.location, self.precision, self.exists & self.at_rest, strict=True):
            offset = self.location - centre
            distance = torch.einsum("mnd,nde,mne->mn", offset, precision, offset)
            unfinished |= reached & ~self.at_rest & (distance < UNFINISHED_DISTANCE**2)
        kept = replace(self, exists=self.exists & ~unfinished)
        order = (~kept.exists).byte().argsort(dim=0, stable=True)[: int(kept.exists.sum(0).max())]
        every = torch.arange(order.shape[1], device=order.device)
        by_mode = [part.name for part in fields(kept) if part.name != "arrived"]
        return replace(kept, **{name: getattr(kept, name)[order, every] for name in by_mode})


def distinct_modes(ends: Ends, max_modes: int) -> Modes:
    """Return the different ends of each point, the highest first.

    Two ends are one mode if they are less than `SAME_MODE_DISTANCE` standard deviations apart, by the curvature at
    the higher one.
    """
    usable = torch.isfinite(ends.log_density)
    usable[0] |= ~usable.any(0)  # a point whose density is zero or no number at every start keeps the first of them
    order = torch.where(usable, ends.log_density, -torch.inf).argsort(dim=0, descending=True)
    location = ends.location.gather(0, order.unsqueeze(-1).expand_as(ends.location))
    left = counted = usable.gather(0, order)  # not yet of any mode
    arrived = ends.arrived.gather(0, order)
    starts, points = order.shape
    every = torch.arange(points, device=order.device)
    chosen, counts, once, exist, at_rest = [], [], [], [], []
    for _ in range(min(max_modes, starts)):
        first = left.double().argmax(0)  # (N,), the highest that is left
        centre = location[first, every]
        precision = ends.precision[order[first, every], every]
        offset = location - centre
        distance = torch.einsum("snd,nde,sne->sn", offset, precision, offset)
        members = left & (distance < SAME_MODE_DISTANCE**2)
        chosen.append(order[first, every])
        counts.append(members.sum(0))
        once.append((counted & (distance < NEIGHBOUR_DISTANCE**2)).sum(0) == 1)
        exist.append(left.any(0))
        at_rest.append((members & arrived).any(0))
        left = left & ~members
        if not bool(left.any()):
            break
    index = torch.stack(chosen)
    return Modes(
        ends.location[index, every],
        ends.log_density[index, every],
        ends.precision[index, every],
        torch.stack(exist),
        torch.stack(counts),
        torch.stack(once),
        torch.stack(at_rest),
        ends.arrived.any(0),
    )
