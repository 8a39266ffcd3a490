"""Climb to the modes of every point's posterior p(u|x), by damped quasi-Newton steps from several starts at once."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .joint_density import Joint, per_point

LogDensity = Callable[[Tensor], Tensor]  # u (draws, N, d) → log p(x, u) (draws, N)

MIN_CURVATURE = 0.1  # of a direction in which the density is flat: about as wide as a standard normal prior, or wider
MAX_ITERATIONS = 80
ROWS_KEPT = 0.8  # of the starts; where fewer still move, the others are left out
SAME_MODE_DISTANCE = 0.3  # standard deviations between two ends that count as one mode
GAIN_TOLERANCE = 1e-3  # nats that one more step would gain: then a start has arrived
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

    def subset(self, rows: Tensor) -> "Ends":
        """The ends of the points `rows`, a mask (N,) or indices, which may repeat."""
        return Ends(*(getattr(self, part.name)[:, rows] for part in fields(self)))

    def highest_precision(self) -> Tensor:
        """The precision at each point's highest end: (1, N, d, d)."""
        highest = torch.where(torch.isfinite(self.log_density), self.log_density, -torch.inf).argmax(0)
        return self.precision[highest, torch.arange(len(highest), device=highest.device)].unsqueeze(0)

    def near(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Whether a climb has come to rest where u (1, N, d) is, and the precision at the nearest end: (1, N) and (1, N, d, d)."""
        offset = self.location - u
        distance = torch.einsum("snd,snde,sne->sn", offset, self.precision, offset)
        least, end = torch.where(self.arrived, distance, torch.inf).min(0)
        precision = self.precision[end, torch.arange(len(end), device=end.device)]
        return (least < SAME_MODE_DISTANCE**2).unsqueeze(0), precision.unsqueeze(0)


def climb(joint: Joint, starts: Tensor, known: Ends | None = None) -> Ends:
    """Go uphill from `starts` (S, N, d) by steps (H + λ diag H)⁻¹ ∇ log p(x, u), each taken only where log p(x, u) rises.

    H is −∇² log p(x, u) with its eigenvalues in absolute value. A Hessian costs d gradients, so it is computed at the start and
    where the climb seems to be at rest. In between, the change of the gradient updates it (Broyden, Fletcher, Goldfarb & Shanno
    1970). λ becomes 0.3 λ after a step that was taken and 5 λ after one that was not, for each start of each point (Levenberg 1944;
    Marquardt 1963). `known` are ends of earlier climbs: their Hessians serve at the start, and at rest where one of them is near.
    """
    num_starts, points, d = starts.shape
    rows = torch.arange(num_starts * points, device=starts.device)  # each start of each point is a row of its own
    joint = joint.subset(rows % points)
    u = starts.reshape(1, -1, d).clone()
    if known is None:
        here = _place(joint.log_p, u)
    else:
        known = known.subset(rows % points)
        here = _about(joint.log_p, u, known.highest_precision())
    damping = torch.full(u.shape[:2], 1e-2, dtype=torch.float64, device=u.device)
    ends = _ends(u, here)
    for _ in range(MAX_ITERATIONS):
        step, moving = here.stride(damping)
        if float(moving.double().mean()) < ROWS_KEPT and not bool((moving | here.exact).all()):
            damping = torch.where(moving | here.exact, damping, damping.clamp(max=1.0))
            here = here.exact_at(~moving, joint, u, known)  # are they at rest by the true curvature, too?
            step, moving = here.stride(damping)
        if not bool(moving.any()):
            break
        if float(moving.double().mean()) < ROWS_KEPT:  # go on with those that move
            ends.put(rows, _ends(u, here))
            left = moving[0]
            joint, rows, here = joint.subset(left), rows[left], here.subset(left)
            u, damping, step, moving = u[:, left], damping[:, left], step[:, left], moving[:, left]
            known = known.subset(left) if known is not None else None
        proposal = torch.where(moving.unsqueeze(-1), u + step.to(u), u)
        there = _about(joint.log_p, proposal, here.precision)
        better = moving & (there.value > here.value)
        here = here.updated(proposal - u, there, better)
        u = torch.where(better.unsqueeze(-1), proposal, u)
        damping = (damping * torch.where(better, 0.3, 5.0)).clamp(MIN_DAMPING, MAX_DAMPING)
    ends.put(rows, _ends(u, here.exact_at(torch.ones_like(here.exact), joint, u, known)))
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
    exact: Tensor  # (S, N), whether the precision is that of this place, and no approximation

    def where(self, chosen: Tensor, other: "_Place") -> "_Place":
        """These numbers where `chosen` (S, N), and the other's elsewhere."""
        return _Place(
            torch.where(chosen, self.value, other.value),
            torch.where(chosen.unsqueeze(-1), self.gradient, other.gradient),
            torch.where(chosen[..., None, None], self.precision, other.precision),
            torch.where(chosen.unsqueeze(-1), self.escape, other.escape),
            torch.where(chosen, self.exact, other.exact),
        )

    def stride(self, damping: Tensor) -> tuple[Tensor, Tensor]:
        """The next step (S, N, d), and whether it is worth taking (S, N)."""
        step, gain = self.step(damping)
        return step, torch.isfinite(self.value) & (gain > GAIN_TOLERANCE) & (damping < MAX_DAMPING)

    def updated(self, step: Tensor, there: "_Place", chosen: Tensor) -> "_Place":
        """The numbers after a step (S, N, d) to a place `there`, where `chosen` (S, N), and these elsewhere.

        The precision is updated by the change of the gradient where that shows a mode.
        """
        step, change = step.double(), self.gradient - there.gradient
        pushed = (self.precision @ step.unsqueeze(-1)).squeeze(-1)
        length, curvature = (step * change).sum(-1), (step * pushed).sum(-1)
        positive = chosen & (length > 1e-6 * curvature) & (curvature > 0)
        update = torch.stack([change / length.unsqueeze(-1).sqrt(), pushed / curvature.unsqueeze(-1).sqrt()], -1)
        update = torch.where(positive[..., None, None], update, 0.0).flatten(0, 1)  # (S N, d, 2)
        signed = update * torch.tensor([1.0, -1.0], dtype=update.dtype, device=update.device)
        precision = torch.baddbmm(self.precision.flatten(0, 1), signed, update.mT)
        moved = there.where(chosen, self)
        return replace(moved, precision=precision.reshape(self.precision.shape))

    def exact_at(self, chosen: Tensor, joint: Joint, u: Tensor, known: Ends | None) -> "_Place":
        """With the true curvature at the `chosen` (1, N) places u: that of a known end where one is near."""
        rows = chosen & ~self.exact
        place = self
        if known is not None and bool(rows.any()):
            near, precision = known.near(u)
            at_end = replace(self, precision=precision, escape=torch.zeros_like(self.escape), exact=near)
            place, rows = at_end.where(rows & near, self), rows & ~near
        if not bool(rows.any()):
            return place
        true = _place(joint.subset(rows[0]).log_p, u[:, rows[0]])
        values = {part.name: getattr(place, part.name).clone() for part in fields(place)}
        for name, value in values.items():
            value[:, rows[0]] = getattr(true, name)
        return _Place(**values)

    def subset(self, rows: Tensor) -> "_Place":
        """The numbers of the points that the mask `rows` (N,) names."""
        return _Place(*(getattr(self, part.name)[:, rows] for part in fields(self)))

    def step(self, damping: Tensor | float) -> tuple[Tensor, Tensor]:
        """Newton's step, damped, and what it is about to gain in nats, twice; at a saddle, the way out, which is worth a try."""
        scale = damping.unsqueeze(-1) if isinstance(damping, Tensor) else damping
        damped = self.precision.clone()
        damped.diagonal(dim1=-2, dim2=-1).mul_(1 + scale)
        step = torch.linalg.solve(damped, self.gradient.unsqueeze(-1)).squeeze(-1)
        gain = (step * self.gradient).sum(-1)
        stuck = (gain <= GAIN_TOLERANCE) & (self.escape != 0).any(-1)
        return torch.where(stuck.unsqueeze(-1), self.escape, step), torch.where(stuck, 1.0, gain)


def _about(log_density: LogDensity, u: Tensor, precision: Tensor) -> _Place:
    """The numbers at u, with a precision that is only about right."""
    (value,), (gradient,) = per_point(lambda u: (log_density(u),), u)
    gradient = gradient.double().nan_to_num(0.0, 0.0, 0.0)
    exact = torch.zeros_like(value, dtype=torch.bool)
    return _Place(value.double(), gradient, precision, torch.zeros_like(gradient), exact)


def _place(log_density: LogDensity, u: Tensor) -> _Place:
    value, gradient, hessian = _derivatives(log_density, u)
    curvature, axes = torch.linalg.eigh(-(hessian + hessian.mT) / 2)
    lowest, direction = curvature[..., :1], axes[..., 0]  # in ascending order
    uphill = torch.where((direction * gradient).sum(-1, keepdim=True) < 0, -direction, direction)
    escape = torch.where(lowest < -MIN_CURVATURE, uphill * lowest.abs().clamp(min=MIN_CURVATURE).rsqrt(), 0.0)
    positive = curvature.abs().clamp(min=MIN_CURVATURE)
    exact = torch.ones_like(value, dtype=torch.bool)
    return _Place(value, gradient, (axes * positive.unsqueeze(-2)) @ axes.mT, escape, exact)


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
