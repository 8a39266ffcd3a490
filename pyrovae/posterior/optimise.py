"""Ascent on the ELBO of many points at once, each for itself."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidInputError
from .batching import positive_ints
from .compiled_density import ValueAndGrad, compile_density
from .joint_density import Joint
from .variational_families import Parameters, Posteriors, VariationalFamily

Moments = tuple[Tensor, Tensor]  # location and spread of u, (N, d) each


@dataclass(frozen=True)
class RefinementSettings:
    """How q is moved: by Adam, until the ELBO of a point stops rising.

    Every `check` steps the mean ELBO of each point is measured. A point rests when it has not gained for `patience`
    checks, or after `limit` steps. At the end, `settle` more steps take the rate to 0 along a cosine. So q lies at
    the optimum and not around it. `lr` is in units of the start's spread; None is the rate of the family. Each step
    uses `draws` draws of each point.
    """

    lr: float | None = None
    draws: int = 32
    check: int = 100
    patience: int = 3
    limit: int = 5000
    settle: int = 300

    def __post_init__(self) -> None:
        whole = {name: getattr(self, name) for name in ("draws", "check", "patience", "limit")}
        positive_ints(**whole)
        if (self.lr is not None and not self.lr > 0) or self.settle < 0 or self.draws % 2:
            raise InvalidInputError(
                f"lr={self.lr}, settle={self.settle}, draws={self.draws}: lr must be above 0, settle not below, draws even."
            )


CREMER_2018 = RefinementSettings(
    lr=1e-3, draws=100, check=100, patience=10, limit=100_000, settle=0
)  # Cremer et al. 2018, from N(0, I)


def ascend(
    joint: Joint, family: VariationalFamily, protocol: RefinementSettings, start: Moments, divisible: bool
) -> tuple[Posteriors, Tensor]:
    """Refined posteriors of one chunk of points, from a start of these moments, and how many steps each took."""
    moving_noise, settling_noise = (_generator(joint.x.device) for _ in range(2))
    loc, spread = start
    optimiser = _Optimiser(joint, family.begin(loc), family, loc, spread, protocol, moving_noise)
    final = {name: value.clone() for name, value in optimiser.parameters.items()}
    points = torch.arange(len(loc), device=loc.device)
    best = torch.full((len(loc),), -torch.inf, dtype=torch.float64, device=loc.device)
    stale, steps = torch.zeros_like(points), torch.zeros_like(points)
    for done in range(protocol.check, protocol.limit + protocol.check, protocol.check):
        bound = optimiser.run(protocol.check)
        stale = torch.where(bound > best[points], 0, stale + 1)
        best[points] = torch.maximum(best[points], bound)
        moving = steps[points] == 0
        rests = moving & ((stale >= protocol.patience) | (done >= protocol.limit))
        steps[points[rests]] = done
        for name, value in optimiser.parameters.items():
            final[name][points[rests]] = value.detach()[rests]
        left = steps[points] == 0
        if not bool(left.any()):
            break
        if divisible and 2 * int(left.sum()) <= len(points):  # the others' records and rows are not paid for any longer
            optimiser, points, stale = optimiser.keep(left), points[left], stale[left]
    if protocol.settle:
        optimiser = _Optimiser(joint, final, family, loc, spread, protocol, settling_noise)
        optimiser.run(protocol.settle, settle=True)
        final = {name: value.detach() for name, value in optimiser.parameters.items()}
    return Posteriors(family, final, loc, spread), steps.cpu()


class _Optimiser:
    """Adam on the ELBO of some points, each for itself: they share the noise, and nothing else."""

    def __init__(
        self,
        joint: Joint,
        parameters: Parameters,
        family: VariationalFamily,
        loc: Tensor,
        spread: Tensor,
        protocol: RefinementSettings,
        noise: torch.Generator,
    ):
        self.joint, self.family, self.loc, self.spread, self.protocol = joint, family, loc, spread, protocol
        self.parameters = {name: value.clone().requires_grad_() for name, value in parameters.items()}
        self.rate = family.rate if protocol.lr is None else protocol.lr
        self.adam = torch.optim.Adam(self.parameters.values(), lr=self.rate)
        self.noise = noise
        self.value_and_grad = self._compile()

    def _compile(self) -> ValueAndGrad:
        like = self.loc.expand(self.protocol.draws, *self.loc.shape)
        return compile_density(lambda u: (self.joint.log_p(u),), like + self.spread * torch.randn_like(like))

    def run(self, steps: int, settle: bool = False) -> Tensor:
        """So many steps; the mean ELBO of each point along them, (N,)."""
        total = torch.zeros(len(self.loc), dtype=torch.float64, device=self.loc.device)
        for number in range(steps):
            if settle:
                turn = torch.tensor(torch.pi * (number + 1) / (steps + 1))
                self.adam.param_groups[0]["lr"] = self.rate * 0.5 * (1 + float(torch.cos(turn)))
            total += self._step()
        return total / steps

    def _step(self) -> Tensor:
        half = torch.randn(
            self.protocol.draws // 2,
            1,
            self.loc.shape[1],
            generator=self.noise,
            dtype=self.loc.dtype,
            device=self.loc.device,
        )
        noise = torch.cat([half, -half]).expand(-1, len(self.loc), -1)
        with torch.enable_grad():
            v, log_q = self.family.draw(self.parameters, noise)
            u = self.loc + self.spread * v
            (log_p,), (gradient_of_log_p,) = self.value_and_grad(u.detach())
            gradient_of_log_p = torch.nan_to_num(gradient_of_log_p, nan=0.0, posinf=0.0, neginf=0.0)
            loss = (log_q - (u * gradient_of_log_p).sum(-1)).mean(0).sum()  # its gradient is that of −ELBO
            gradients = torch.autograd.grad(loss, list(self.parameters.values()))
        for parameter, gradient in zip(self.parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        self.adam.step()
        return (log_p - (log_q.detach() - self.spread.log().sum(-1))).mean(0).double()

    def keep(self, rows: Tensor) -> "_Optimiser":
        """The same for some of the points, with what Adam remembers of them."""
        joint = Joint(self.joint.model, self.joint.guide, self.joint.x[rows])
        chosen = {name: value.detach()[rows] for name, value in self.parameters.items()}
        selected = _Optimiser(joint, chosen, self.family, self.loc[rows], self.spread[rows], self.protocol, self.noise)
        for old, new in zip(self.parameters.values(), selected.parameters.values(), strict=True):
            selected.adam.state[new] = {
                name: value[rows] if value.dim() else value for name, value in self.adam.state[old].items()
            }
        return selected


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, ())))


def moments_of(draws: Tensor) -> Moments:
    """Mean and standard deviation of draws (S, N, d); 0 and 1 where they are not finite, or all draws are one."""
    loc, spread = draws.mean(0), draws.std(0)
    usable = torch.isfinite(loc) & torch.isfinite(spread) & (spread > 0)
    return torch.where(usable, loc, 0.0), torch.where(usable, spread, 1.0)
