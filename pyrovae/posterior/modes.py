"""Modes of the posterior p(u|x) of every point, by damped Newton steps from several starts at once."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .joint_density import Joint, per_point

LogDensity = Callable[[Tensor], Tensor]  # u (draws, N, d) → log p(x, u) (draws, N)

MIN_CURVATURE = 0.1  # of a direction in which the density is flat: about as wide as a standard normal prior, or wider
MAX_ITERATIONS = 80
ROWS_KEPT = 0.8  # of the starts; where fewer still move, the others are left out
GAIN_TOLERANCE = 1e-3  # nats that one more step would gain: then a start has arrived
SAME_MODE_DISTANCE = 0.3  # standard deviations between two ends that count as one mode
UNFINISHED_DISTANCE = 3.0  # standard deviations, within which an unfinished climb is taken to lead to a mode
MIN_DAMPING, MAX_DAMPING = 1e-6, 1e6


@dataclass(frozen=True)
class Ends:
    """Where Newton's steps ended, from S starts for each of N points. In double precision."""

    location: Tensor  # (S, N, d)
    log_density: Tensor  # (S, N), log p(x, u) there
    precision: Tensor  # (S, N, d, d), −∇² log p(x, u) there, its eigenvalues made positive
    arrived: Tensor  # (S, N), whether another step would gain next to nothing

    def joined(self, other: "Ends") -> "Ends":
        """The ends of all starts of both."""
        return Ends(*(torch.cat([getattr(self, part.name), getattr(other, part.name)]) for part in fields(self)))

    def reshaped(self, num_starts: int, points: int) -> "Ends":
        """Of starts and points that stand in one row, start by start."""
        values = (getattr(self, part.name) for part in fields(self))
        return Ends(*(value.reshape(num_starts, points, *value.shape[2:]) for value in values))

    def put(self, rows: Tensor, other: "Ends") -> None:
        """Replace the ends of the points `rows` by the other's."""
        for part in fields(self):
            getattr(self, part.name)[:, rows] = getattr(other, part.name)


@dataclass(frozen=True)
class Modes:
    """Up to M different modes of each point, highest first. Where a point has fewer, `exists` is False. In double precision."""

    location: Tensor  # (M, N, d)
    log_density: Tensor  # (M, N), log p(x, u) there
    precision: Tensor  # (M, N, d, d), −∇² log p(x, u) there, its eigenvalues made positive
    exists: Tensor  # (M, N)
    num_starts: Tensor  # (M, N), how many starts ended there
    at_rest: Tensor  # (M, N), whether Newton's steps from one of them came to an end there
    arrived: Tensor  # (N,), whether Newton's steps from some start came to an end

    @property
    def share_found_once(self) -> Tensor:
        """The share of starts whose mode no other start found: (N,). It estimates the mass of modes not found (Good 1953)."""
        once = (self.exists & (self.num_starts == 1)).sum(0).double()
        return once / self.num_starts.sum(0).clamp(min=1)

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


def climb(joint: Joint, starts: Tensor) -> Ends:
    """Go uphill from `starts` (S, N, d) by steps (H + λ diag H)⁻¹ ∇ log p(x, u), each taken only where log p(x, u) rises.

    H is −∇² log p(x, u) with its eigenvalues in absolute value. λ becomes 0.3 λ after a step that was taken and 5 λ after one
    that was not, for each start of each point (Levenberg 1944; Marquardt 1963).
    """
    num_starts, points, d = starts.shape
    rows = torch.arange(num_starts * points, device=starts.device)  # each start of each point is a row of its own
    joint = joint.subset(rows % points)
    u = starts.reshape(1, -1, d).clone()
    here = _place(joint.log_p, u)
    damping = torch.full(u.shape[:2], 1e-2, dtype=torch.float64, device=u.device)
    ends = _ends(u, here)
    for _ in range(MAX_ITERATIONS):
        step, gain = here.step(damping)
        moving = torch.isfinite(here.value) & (gain > GAIN_TOLERANCE) & (damping < MAX_DAMPING)
        if not bool(moving.any()):
            break
        if float(moving.double().mean()) < ROWS_KEPT:  # go on with those that move
            ends.put(rows, _ends(u, here))
            left = moving[0]
            joint, rows, here = joint.subset(left), rows[left], here.subset(left)
            u, damping, step, moving = u[:, left], damping[:, left], step[:, left], moving[:, left]
        proposal = torch.where(moving.unsqueeze(-1), u + step.to(u), u)
        there = _place(joint.log_p, proposal)
        better = moving & (there.value > here.value)
        u = torch.where(better.unsqueeze(-1), proposal, u)
        here = there.where(better, here)
        damping = (damping * torch.where(better, 0.3, 5.0)).clamp(MIN_DAMPING, MAX_DAMPING)
    ends.put(rows, _ends(u, here))
    return ends.reshaped(num_starts, points)


def _ends(u: Tensor, here: "_Place") -> Ends:
    arrived = torch.isfinite(here.value) & (here.step(0.0)[1] <= 10 * GAIN_TOLERANCE)
    return Ends(u.double().clone(), here.value.clone(), here.precision.clone(), arrived)


@dataclass(frozen=True)
class _Place:
    """log p(x, u) and its derivatives at one u for each start and point, in double precision."""

    value: Tensor  # (S, N)
    gradient: Tensor  # (S, N, d)
    precision: Tensor  # (S, N, d, d), −∇² log p with eigenvalues in absolute value and at least `MIN_CURVATURE`
    escape: Tensor  # (S, N, d), a step out of a saddle: a standard deviation along the direction of most upward curvature, or 0

    def where(self, chosen: Tensor, other: "_Place") -> "_Place":
        """These numbers where `chosen` (S, N), and the other's elsewhere."""
        return _Place(
            torch.where(chosen, self.value, other.value),
            torch.where(chosen.unsqueeze(-1), self.gradient, other.gradient),
            torch.where(chosen[..., None, None], self.precision, other.precision),
            torch.where(chosen.unsqueeze(-1), self.escape, other.escape),
        )

    def subset(self, rows: Tensor) -> "_Place":
        """The numbers of the points that the mask `rows` (N,) names."""
        return _Place(*(getattr(self, part.name)[:, rows] for part in fields(self)))

    def step(self, damping: Tensor | float) -> tuple[Tensor, Tensor]:
        """Newton's step, damped, and what it is about to gain in nats, twice; at a saddle, the way out, which is worth a try."""
        diagonal = self.precision.diagonal(dim1=-2, dim2=-1)
        damped = self.precision + torch.diag_embed(torch.as_tensor(damping).unsqueeze(-1) * diagonal)
        step = torch.linalg.solve(damped, self.gradient.unsqueeze(-1)).squeeze(-1)
        gain = (step * self.gradient).sum(-1)
        stuck = (gain <= GAIN_TOLERANCE) & (self.escape != 0).any(-1)
        return torch.where(stuck.unsqueeze(-1), self.escape, step), torch.where(stuck, 1.0, gain)


def _place(log_density: LogDensity, u: Tensor) -> _Place:
    value, gradient, hessian = _derivatives(log_density, u)
    curvature, axes = torch.linalg.eigh(-(hessian + hessian.mT) / 2)
    lowest, direction = curvature[..., :1], axes[..., 0]  # in ascending order
    uphill = torch.where((direction * gradient).sum(-1, keepdim=True) < 0, -direction, direction)
    escape = torch.where(lowest < -MIN_CURVATURE, uphill * lowest.abs().clamp(min=MIN_CURVATURE).rsqrt(), 0.0)
    positive = curvature.abs().clamp(min=MIN_CURVATURE)
    return _Place(value, gradient, (axes * positive.unsqueeze(-2)) @ axes.mT, escape)


def _derivatives(log_density: LogDensity, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p (S, N), its gradient (S, N, d) and its Hessian (S, N, d, d), in double precision.

    Points and draws are independent, so that d backward passes give every Hessian. Where one is not finite, it is made of
    differences of the gradient: `torch.logaddexp` has no second derivative where its arguments are far apart. What is not
    finite then is 0.
    """
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        value = log_density(u)
        (gradient,) = torch.autograd.grad(value.sum(), u, create_graph=True)
        rows = []
        for axis in range(u.shape[-1]):
            row = None
            if gradient.requires_grad:  # it does not where log p is linear in u
                (row,) = torch.autograd.grad(gradient[..., axis].sum(), u, retain_graph=True, allow_unused=True)
            rows.append(torch.zeros_like(u) if row is None else row)
    hessian = torch.stack(rows, dim=-2).detach().double()
    value, gradient = value.detach().double(), gradient.detach().double()
    if not bool(torch.isfinite(hessian).all()):
        finite = torch.isfinite(hessian).flatten(-2).all(-1)[..., None, None]
        hessian = torch.where(finite, hessian, _difference_hessian(log_density, u.detach()))
    return value, gradient.nan_to_num(0.0, 0.0, 0.0), hessian.nan_to_num(0.0, 0.0, 0.0)


def _difference_hessian(log_density: LogDensity, u: Tensor) -> Tensor:
    """Central differences of the gradient: (S, N, d, d), in double precision."""
    step = torch.finfo(u.dtype).eps ** (1 / 3) * (1 + u.abs())
    rows = []
    for axis in range(u.shape[-1]):
        offset = torch.zeros_like(u)
        offset[..., axis] = step[..., axis]
        sides = [per_point(lambda u: (log_density(u),), u + sign * offset)[1][0].double() for sign in (1, -1)]
        rows.append((sides[0] - sides[1]) / (2 * step[..., axis : axis + 1]).double())
    return torch.stack(rows, dim=-2)


def distinct_modes(ends: Ends, max_modes: int) -> Modes:
    """The different ends, the highest first, of each point. Two ends are one mode where they are less than
    `SAME_MODE_DISTANCE` standard deviations apart, by the curvature at the higher one."""
    usable = torch.isfinite(ends.log_density)
    usable[0] |= ~usable.any(0)  # a point whose density is zero or no number at every start keeps the first of them
    order = torch.where(usable, ends.log_density, -torch.inf).argsort(dim=0, descending=True)
    location = ends.location.gather(0, order.unsqueeze(-1).expand_as(ends.location))
    left = usable.gather(0, order)  # not yet of any mode
    arrived = ends.arrived.gather(0, order)
    starts, points = order.shape
    every = torch.arange(points, device=order.device)
    chosen, counts, exist, at_rest = [], [], [], []
    for _ in range(min(max_modes, starts)):
        first = left.double().argmax(0)  # (N,), the highest that is left
        centre = location[first, every]
        precision = ends.precision[order[first, every], every]
        offset = location - centre
        near = torch.einsum("snd,nde,sne->sn", offset, precision, offset) < SAME_MODE_DISTANCE**2
        members = left & near
        chosen.append(order[first, every])
        counts.append(members.sum(0))
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
        torch.stack(at_rest),
        ends.arrived.any(0),
    )
