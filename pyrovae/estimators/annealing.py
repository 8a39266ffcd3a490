"""Annealed importance sampling: log p(x) of every point from chains that move from a start to the posterior.

Neal 2001; the settings are those of Wu, Burda, Salakhutdinov & Grosse 2017.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import NonFiniteError
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.validation import check_points
from ..posterior.batching import checked, in_chunks, share
from ..posterior.compiled_density import record
from ..posterior.joint_density import Joint
from ..statistics import log_weights as weights_statistics
from ..statistics.estimate import Estimate, mean_over_points
from ..utils.provenance import device_name, versions
from ..utils.random import fork_rng
from .annealing_schedules import Schedule, Sigmoid
from .hmc import State, trajectory

TARGET, SMALLEST, LARGEST = 0.65, 1e-4, 0.5  # acceptance, and step sizes in units of the start's spread


@dataclass(frozen=True, repr=False)
class AISResult:
    """What `ais` found, point by point: tensors on the CPU, nats.

    `log_w` (chains, N): every exp(log_w) is an unbiased estimate of p(x), so `log_likelihood`, the log of their mean, is a
    lower bound on log p(x) in expectation, which is what `bound` says.
    """

    log_w: Tensor
    acceptance: Tensor  # (N,), the share of trajectories that were accepted
    step_size: Tensor  # (N,), the last, in units of the start's spread
    seconds: float
    card: dict[str, Any]
    bound: str = "lower"

    def __len__(self) -> int:
        return self.log_w.shape[1]

    def __repr__(self) -> str:
        value, mc_se, _ = self.mean_log_likelihood
        chains, steps = self.card["chains"], self.card["steps"]
        return f"Annealed({len(self)} points, {chains} chains of {steps} steps: log p(x) ≥ {value:.3f} ± {mc_se:.3f})"

    @property
    def log_likelihood(self) -> Tensor:
        """log (1/C) Σ_c w_c: (N,)."""
        return weights_statistics.log_likelihood(self.log_w)

    @property
    def log_likelihood_se(self) -> Tensor:
        """Its standard error over chains, by the delta method: (N,). Where `ess` is a handful it is too small."""
        return weights_statistics.log_likelihood_se(self.log_w)

    @property
    def ess(self) -> Tensor:
        """Effective number of chains, between 1 and C: (N,)."""
        return weights_statistics.ess(self.log_w)

    @property
    def mean_log_likelihood(self) -> Estimate:
        return mean_over_points(self.log_likelihood, self.log_likelihood_se)


def ais(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    chains: int = 16,
    steps: int = 1000,
    seed: int = 0,
    *,
    from_guide: bool = False,
    schedule: Schedule | None = None,
    leapfrog: int = 10,
    progress: Callable[[float], None] | None = None,
) -> AISResult:
    """Annealed importance sampling of log p(x_n) for every row of x.

    Chains begin at draws of the prior, or of the guide, and pass `steps` distributions f_β = q(z)^(1−β) p(x, z)^β, β from 0 to
    1, q being the prior or the guide; log w = Σ_t (β_t − β_{t−1}) log p(x, z_{t−1}) / q(z_{t−1}), E w = p(x) (Neal 2001, eq. 11;
    Wu et al. 2017, alg. 1). The transition is a Hamiltonian trajectory of `leapfrog` steps in unconstrained space, accepted or
    not, its momentum scaled by the start's spread in each direction.

    **Step sizes.** Wu et al. adapt each chain's step by its own acceptance, and a transition that knows its chain's past leaves no
    f_β invariant: E w = p(x) no longer holds exactly. So the chains that count adapt nothing. Beside them run pilots, one for four
    chains; a pilot's step goes ×1.02 or ×0.98 towards an acceptance of 0.65 within [1e-4, 0.5], and its chains use the pilot's.
    Pilots know nothing of those chains and are thrown away, so every transition leaves its f_β invariant, and the bound holds.

    `guide` says which latents are drawn and which summed out, also where the prior is the start. `progress` is called with the
    number of points done since its last call, a fraction. x is on the device and in the type of the pair's parameters; modules
    are put in evaluation mode and back, torch's random state is left as it was. The same seed gives the same numbers.

    Raises `InvalidInputError` for chains < 2, discrete latents that are not summed out, a guide without a density where it is the start;
    `NonFiniteError` where no chain of a point has a finite weight.
    """
    settings = checked(chains=chains, steps=steps, leapfrog=leapfrog)
    check_points(x)
    schedule = schedule or Sigmoid()
    started = time.perf_counter()

    def work(joint: Joint, start: int) -> AISTrajectory:
        walk = Path(joint, chains, from_guide).forward(schedule(steps), leapfrog, share(progress, len(joint.x)))
        check_weights(walk.log_w, start)
        return walk

    with evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device, seed):
        parts = in_chunks(model, guide, x, chains + pilots_of(chains), work)
    return AISResult(
        torch.cat([part.log_w for part in parts], dim=1).cpu(),
        torch.cat([part.acceptance for part in parts]).cpu(),
        torch.cat([part.steps[-1] for part in parts]).cpu(),
        time.perf_counter() - started,
        {
            **settings,
            "start": "guide" if from_guide else "prior",
            "schedule": str(schedule),
            "seed": seed,
            "points": len(x),
            "dtype": str(x.dtype).removeprefix("torch."),
            "device": device_name(x.device),
            **versions(),
        },
    )


@dataclass(frozen=True)
class AISTrajectory:
    """Chains that have gone all the way."""

    log_w: Tensor  # (chains, N), float64
    acceptance: Tensor  # (N,)
    steps: Tensor  # (T − 1, N), the size of each step, averaged over pilots


class Path:
    """From q, the prior or the guide, to p(x, ·), for the points of one chunk."""

    def __init__(self, joint: Joint, chains: int, from_guide: bool):
        self.joint, self.chains, self.pilots = joint, chains, pilots_of(chains)
        self.draw = joint.draw_guide if from_guide else joint.draw_prior
        self.densities = joint.log_guide_and_p if from_guide else joint.log_prior_and_p
        self.spread = _spread(self.draw(64))  # (N, d); from draws of its own, so that chains do not know it

    def forward(self, betas: Tensor, leapfrog: int, progress: Callable[[float], None]) -> AISTrajectory:
        """From q to p: weights whose mean is p(x)."""
        u = self.draw(self.pilots + self.chains)
        return self._walk(u, betas, StepSizeAdapter(self.pilots, u), leapfrog, progress)

    def backward(
        self, z: Tensor, betas: Tensor, steps: Tensor, leapfrog: int, progress: Callable[[float], None]
    ) -> AISTrajectory:
        """From an exact posterior draw z (1, N, d) to q: weights whose mean is 1/p(x). The step sizes are those of a forward
        walk, (T − 1, N), which knew nothing of z."""
        u = z.expand(self.chains, *z.shape[1:]).contiguous()
        return self._walk(u, betas.flip(0), _Given(steps.flip(0)), leapfrog, progress)

    def _walk(
        self,
        u: Tensor,
        betas: Tensor,
        sizes: "StepSizeAdapter | _Given",
        leapfrog: int,
        progress: Callable[[float], None],
    ) -> AISTrajectory:
        slopes = record(self.densities, u)
        state = State(u, *slopes(u))
        log_w = torch.zeros(u.shape[:2], dtype=torch.float64, device=u.device)
        accepted, taken = torch.zeros_like(log_w), []
        for before, beta in zip(betas[:-1].tolist(), betas[1:].tolist(), strict=True):
            log_q, log_p = state.densities
            log_w += (beta - before) * (log_p.double() - log_q.double())
            if beta not in (0.0, 1.0):  # at the end nothing is weighted any more
                taken.append(sizes.mean())
                state, probability = trajectory(state, beta, sizes(u) * self.spread, leapfrog, slopes)
                accepted += probability
                sizes.learn(probability)
            progress(1 / (len(betas) - 1))
        counted = slice(len(u) - self.chains, None)
        return AISTrajectory(
            log_w[counted], accepted[counted].mean(0) / max(1, len(betas) - 2), torch.stack(taken or [sizes.mean()])
        )


class StepSizeAdapter:
    """Step sizes that the first rows of chains learn, each for itself and its share of the others."""

    def __init__(self, count: int, u: Tensor):
        self.size = u.new_full((count, u.shape[1], 1), 0.25)
        self.average = u.new_full((count, u.shape[1], 1), TARGET)
        self.follows = torch.arange(len(u), device=u.device) % count  # a pilot follows itself

    def __call__(self, u: Tensor) -> Tensor:
        return self.size[self.follows]

    def learn(self, probability: Tensor) -> None:
        self.average = 0.9 * self.average + 0.1 * probability[: len(self.size)].unsqueeze(-1)
        factor = torch.where(self.average > TARGET, 1.02, 0.98)
        self.size = (self.size * factor).clamp(SMALLEST, LARGEST)

    def mean(self) -> Tensor:
        return self.size.log().mean(0).exp().squeeze(-1)


class _Given:
    """Step sizes of a walk that has been."""

    def __init__(self, steps: Tensor):
        self.steps = iter(steps)
        self.now = next(self.steps)

    def __call__(self, u: Tensor) -> Tensor:
        return self.now.unsqueeze(-1)

    def learn(self, probability: Tensor) -> None:
        self.now = next(self.steps, self.now)

    def mean(self) -> Tensor:
        return self.now


def pilots_of(chains: int) -> int:
    """How many chains learn step sizes for the others."""
    return max(1, chains // 4)


def check_weights(log_w: Tensor, start: int) -> None:
    none = ~torch.isfinite(log_w.logsumexp(0))
    if bool(none.any()):
        point = int(none.nonzero()[0])
        raise NonFiniteError(
            f"No chain of data point {start + point} has a finite weight (log w at most {log_w[:, point].max().item()}): its density "
            "is zero or no number where the chains begin; begin at the other of prior and guide, or look at that point."
        )


def _spread(draws: Tensor) -> Tensor:
    """Half the width of the middle two thirds of draws (S, N, d) → (N, d): about a standard deviation, which heavy tails do not
    move."""
    ordered, outside = draws.sort(dim=0).values, len(draws) // 6
    width = 0.5 * (ordered[-1 - outside] - ordered[outside])
    return torch.where(torch.isfinite(width) & (width > 0), width, 1.0)
