"""q refined for every point: how far a family can go when no network stands between x and its parameters.

Cremer, Li & Duvenaud 2018: what remains between L[q*] and log p(x) is the family's, what lay between L[q_φ] and L[q*] is the
network's.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from .. import evidence
from ..errors import Diverged, Refusal
from ..evaluation import device_name, is_per_point, versions
from ..evidence import Estimate, mean_over_points
from ..joint import Joint
from ..running import Program, evaluation_mode, fork_rng, sites
from ..structure import Structure, refuse_bad_points
from .chunks import checked, in_chunks, share
from .families import DiagonalGaussian, Family, Flow, FullGaussian, Parameters
from .recording import Slopes, record


@dataclass(frozen=True)
class Protocol:
    """How q is moved: Adam at `lr`, in units of the start's spread (the family's own rate if None), on `draws` draws of each point; every `check` steps their
    mean ELBO is looked at, and a point that has not gained for `patience` checks, or has had `limit` steps, rests. At the end
    `settle` more steps take the rate down to 0 along a cosine, so that q comes to lie at the optimum and not around it."""

    lr: float | None = None
    draws: int = 32
    check: int = 100
    patience: int = 3
    limit: int = 5000
    settle: int = 300

    def __post_init__(self) -> None:
        whole = {name: getattr(self, name) for name in ("draws", "check", "patience", "limit")}
        checked(**whole)
        if (self.lr is not None and not self.lr > 0) or self.settle < 0 or self.draws % 2:
            raise Refusal(
                f"lr={self.lr}, settle={self.settle}, draws={self.draws}: lr must be above 0, settle not below, draws even."
            )


PUBLISHED = Protocol(
    lr=1e-3, draws=100, check=100, patience=10, limit=100_000, settle=0
)  # Cremer et al. 2018, from N(0, I)


@dataclass(frozen=True, repr=False)
class Refined:
    """What `refine` found, point by point: tensors on the CPU, nats; all from `samples` fresh draws of the refined q.

    `elbo` L[q*] ≤ log p(x) and `log_likelihood` ≤ log p(x), both in expectation: `bound` says so.
    """

    elbo: Tensor
    elbo_se: Tensor
    log_likelihood: Tensor
    log_likelihood_se: Tensor
    gap_se: Tensor  # of log_likelihood − elbo, which share their draws
    ess: Tensor
    steps: Tensor  # (N,), how many steps each point took before it rested
    posteriors: "Posteriors"
    seconds: float
    card: dict[str, Any]
    bound: str = "lower"

    def __len__(self) -> int:
        return len(self.elbo)

    def __repr__(self) -> str:
        value, mc_se, _ = self.mean_elbo
        return f"Refined({len(self)} points, {self.card['family']}: L[q*] {value:.3f} ± {mc_se:.3f})"

    @property
    def mean_elbo(self) -> Estimate:
        return mean_over_points(self.elbo, self.elbo_se)

    @property
    def mean_log_likelihood(self) -> Estimate:
        return mean_over_points(self.log_likelihood, self.log_likelihood_se)


@dataclass(frozen=True)
class Posteriors:
    """q*(u) of each point: a family's parameters, in units of the start. Tensors (N, ...)."""

    family: Family
    parameters: Parameters
    loc: Tensor  # (N, d)
    spread: Tensor  # (N, d)

    def __len__(self) -> int:
        return len(self.loc)

    def sample(self, draws: int) -> tuple[Tensor, Tensor]:
        """u ~ q* and log q*(u): (draws, N, d), (draws, N)."""
        noise = torch.randn(draws, *self.loc.shape, dtype=self.loc.dtype, device=self.loc.device)
        with torch.no_grad():
            v, log_q = self.family.draw(self.parameters, noise)
        return self.loc + self.spread * v, log_q - self.spread.log().sum(-1)

    def log_prob(self, u: Tensor) -> Tensor:
        """log q*(u): (draws, N, d) → (draws, N)."""
        return self.family.log_prob(self.parameters, (u - self.loc) / self.spread) - self.spread.log().sum(-1)

    def rows(self, index: Tensor) -> "Posteriors":
        """Those of some points."""
        chosen = {name: value[index] for name, value in self.parameters.items()}
        return Posteriors(self.family, chosen, self.loc[index], self.spread[index])

    @staticmethod
    def joined(parts: "list[Posteriors]") -> "Posteriors":
        names = parts[0].parameters
        parameters = {name: torch.cat([part.parameters[name] for part in parts]) for name in names}
        loc, spread = torch.cat([part.loc for part in parts]), torch.cat([part.spread for part in parts])
        return Posteriors(parts[0].family, parameters, loc, spread)


def refine(
    model: Program,
    guide: Program,
    x: Tensor,
    family: Family | None = None,
    samples: int = 1000,
    seed: int = 0,
    *,
    protocol: Protocol | None = None,
    from_guide: bool = True,
    progress: Callable[[float], None] | None = None,
) -> Refined:
    """argmax_q L[q] = E_q[log p(x_n, u) − log q(u)] within a family, for every row of x by itself, and what L and log p̂ are there.

    q is over the unconstrained latents u; without a `family` it is `matching`'s, the guide's own. It begins at the guide's moments,
    or at N(0, I). All points move together under one optimiser and one stream of noise, so that what becomes of a point does not
    depend on the others (but for the draws that tell the guide's moments). The guide is only drawn from: it need not be reparameterised, nor have a density.

    `samples` fresh draws score the end: nothing that was optimised is reported. `progress` is called with the number of points
    done since its last call, a fraction. x is on the device and in the type of the pair's parameters; modules are put in
    evaluation mode and back, torch's random state is left as it was.

    Raises `Refusal` for discrete latents that are not summed out and latents on a circle; `Diverged` where q finds no density.
    """
    checked(samples=samples)
    refuse_bad_points(x)
    protocol = protocol or Protocol()
    started = time.perf_counter()
    with evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device, seed):
        whole, noise = is_per_point(guide, x), int(torch.randint(2**62, ()))

        def work(joint: Joint, start: int) -> tuple[Posteriors, Tensor, Tensor]:
            _refuse_circles(joint.structure)
            chosen = family or matching(joint.structure)
            with fork_rng(x.device, noise):  # the same in each chunk
                posteriors, steps = _move(joint, chosen, protocol, from_guide, divisible=not whole)
            log_w = log_weights(joint, posteriors, samples)
            _refuse_no_bound(log_w, start)
            share(progress, len(joint.x))(1.0)
            return posteriors, steps, log_w

        parts = in_chunks(model, guide, x, protocol.draws, work)
    log_w = torch.cat([part[2] for part in parts], dim=1)
    names = ("elbo", "elbo_se", "log_likelihood", "log_likelihood_se", "gap_se", "ess")
    posteriors = Posteriors.joined([part[0] for part in parts])
    return Refined(
        **{name: getattr(evidence, name)(log_w).cpu() for name in names},
        steps=torch.cat([part[1] for part in parts]),
        posteriors=posteriors,
        seconds=time.perf_counter() - started,
        card={
            "family": str(posteriors.family),
            "start": "guide" if from_guide else "N(0, I)",
            **{**protocol.__dict__, "lr": posteriors.family.rate if protocol.lr is None else protocol.lr},
            "samples": samples,
            "seed": seed,
            "points": len(x),
            "dtype": str(x.dtype).removeprefix("torch."),
            "device": device_name(x.device),
            **versions(),
        },
    )


def matching(structure: Structure) -> Family:
    """The family that the guide's own looks like: diagonal where all its latents are independent Gaussians, a flow where one is
    transformed, else with a full covariance."""
    drawn = [site["fn"] for site in sites(structure.guide_trace) if not site["infer"].get("is_auxiliary")]
    bases = [fn.base_dist if isinstance(fn, dist.Independent) else fn for fn in drawn]
    if all(isinstance(base, dist.Normal | dist.Delta) for base in bases):
        return DiagonalGaussian()
    if any(type(base) is dist.TransformedDistribution for base in bases):
        return Flow()
    return FullGaussian()


def log_weights(joint: Joint, posteriors: Posteriors, samples: int, chunk: int = 256) -> Tensor:
    """log p(x, u) − log q*(u) of fresh draws: (samples, N), float64."""
    parts = []
    for size in [min(chunk, samples - done) for done in range(0, samples, chunk)]:
        u, log_q = posteriors.sample(size)
        parts.append((joint.log_p(u) - log_q).double())
    return torch.cat(parts)


def _move(
    joint: Joint, family: Family, protocol: Protocol, from_guide: bool, divisible: bool
) -> tuple[Posteriors, Tensor]:
    """Refined posteriors of one chunk of points, and how many steps each took."""
    moving_noise, settling_noise = (_generator(joint.x.device) for _ in range(2))
    loc, spread = _moments(joint) if from_guide else _standard(joint)
    mover = _Mover(joint, family.begin(loc), family, loc, spread, protocol, moving_noise)
    final = {name: value.clone() for name, value in mover.parameters.items()}
    points = torch.arange(len(loc), device=loc.device)
    best = torch.full((len(loc),), -torch.inf, dtype=torch.float64, device=loc.device)
    stale, steps = torch.zeros_like(points), torch.zeros_like(points)
    for done in range(protocol.check, protocol.limit + protocol.check, protocol.check):
        bound = mover.run(protocol.check)
        stale = torch.where(bound > best[points], 0, stale + 1)
        best[points] = torch.maximum(best[points], bound)
        moving = steps[points] == 0
        rests = moving & ((stale >= protocol.patience) | (done >= protocol.limit))
        steps[points[rests]] = done
        for name, value in mover.parameters.items():
            final[name][points[rests]] = value.detach()[rests]
        left = steps[points] == 0
        if not bool(left.any()):
            break
        if divisible and 2 * int(left.sum()) <= len(points):  # the others' records and rows are not paid for any longer
            mover, points, stale = mover.keep(left), points[left], stale[left]
    if protocol.settle:
        mover = _Mover(joint, final, family, loc, spread, protocol, settling_noise)
        mover.run(protocol.settle, settle=True)
        final = {name: value.detach() for name, value in mover.parameters.items()}
    return Posteriors(family, final, loc, spread), steps.cpu()


class _Mover:
    """Adam on the ELBO of some points, each for itself: they share the noise, and nothing else."""

    def __init__(
        self,
        joint: Joint,
        parameters: Parameters,
        family: Family,
        loc: Tensor,
        spread: Tensor,
        protocol: Protocol,
        noise: torch.Generator,
    ):
        self.joint, self.family, self.loc, self.spread, self.protocol = joint, family, loc, spread, protocol
        self.parameters = {name: value.clone().requires_grad_() for name, value in parameters.items()}
        self.rate = family.rate if protocol.lr is None else protocol.lr
        self.adam = torch.optim.Adam(self.parameters.values(), lr=self.rate)
        self.noise = noise
        self.slopes = self._record()

    def _record(self) -> Slopes:
        like = self.loc.expand(self.protocol.draws, *self.loc.shape)
        return record(lambda u: (self.joint.log_p(u),), like + self.spread * torch.randn_like(like))

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
            (log_p,), (slope,) = self.slopes(u.detach())
            slope = torch.nan_to_num(slope, nan=0.0, posinf=0.0, neginf=0.0)
            loss = (log_q - (u * slope).sum(-1)).mean(0).sum()  # its gradient is that of −ELBO
            gradients = torch.autograd.grad(loss, list(self.parameters.values()))
        for parameter, gradient in zip(self.parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        self.adam.step()
        return (log_p - (log_q.detach() - self.spread.log().sum(-1))).mean(0).double()

    def keep(self, rows: Tensor) -> "_Mover":
        """The same for some of the points, with what Adam remembers of them."""
        joint = Joint(self.joint.model, self.joint.guide, self.joint.x[rows])
        chosen = {name: value.detach()[rows] for name, value in self.parameters.items()}
        kept = _Mover(joint, chosen, self.family, self.loc[rows], self.spread[rows], self.protocol, self.noise)
        for old, new in zip(self.parameters.values(), kept.parameters.values(), strict=True):
            kept.adam.state[new] = {
                name: value[rows] if value.dim() else value for name, value in self.adam.state[old].items()
            }
        return kept


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, ())))


def _moments(joint: Joint) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the guide's u, (N, d) each, from 256 draws."""
    draws = joint.draw_guide(256)
    loc, spread = draws.mean(0), draws.std(0)
    usable = torch.isfinite(loc) & torch.isfinite(spread) & (spread > 0)
    return torch.where(usable, loc, 0.0), torch.where(usable, spread, 1.0)


def _standard(joint: Joint) -> tuple[Tensor, Tensor]:
    shape = (len(joint.x), joint.size)
    return joint.x.new_zeros(shape), joint.x.new_ones(shape)


def _refuse_circles(structure: Structure) -> None:
    """A density on a circle repeats itself along R for ever, and a Gaussian over R gains by being wide without end."""
    for latent in structure.latents:
        fn = structure.model_trace.nodes[latent.name]["fn"]
        if isinstance(getattr(fn, "base_dist", fn), dist.VonMises | dist.SineBivariateVonMises):
            raise Refusal(
                f"Latent '{latent.name}' is an angle, and no Gaussian over the real line is a density on the circle: use ais or "
                "evaluate, which need none."
            )


def _refuse_no_bound(log_w: Tensor, start: int) -> None:
    bad = ~torch.isfinite(log_w).all(0)
    if bool(bad.any()):
        point = int(bad.nonzero()[0])
        raise Diverged(
            f"The refined q of data point {start + point} draws where the model has no density: lower the protocol's lr, or look "
            "at that point."
        )
