"""Chains along an annealing path, from a start to the posterior of each point, and their weights."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..posterior.compiled_density import compile_density
from ..posterior.joint_density import Joint
from ..posterior.mode_mixture import ModeMixture
from ..statistics.weight_sums import WeightSums
from .annealing_schedules import Schedule, Sigmoid
from .annealing_starts import AnnealingStart, MixtureStart
from .hmc import State, trajectory
from .step_sizes import FixedStepSizes, StepSizeAdapter


def anneal_from_mixture(
    joint: Joint,
    mixture: ModeMixture,
    num_chains: int = 16,
    num_temperatures: int = 32,
    num_leapfrog_steps: int = 4,
    *,
    schedule: Schedule | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> "AISTrajectory":
    """Anneal from the mixture fitted to each point's posterior to the posterior itself: E w = p(x) for every chain.

    Few temperatures suffice, since the mixture is near the posterior. Call it without gradients, in evaluation mode.
    For some of the points give `joint.subset(rows)` and `mixture.subset(rows)`.

    Args:
        joint: The densities at N points.
        mixture: The normalised density q₀ of each point, such as `fit_mixture` returns.
        num_chains: How many weights each point gets. A quarter as many chains run beside them and choose the step
            sizes.
        num_temperatures: How many steps lead from q₀ to the posterior.
        num_leapfrog_steps: Steps of each Hamiltonian trajectory.
        schedule: The values of β, as for `ais`.
        on_progress: Called with the fraction of the work done since its last call.

    Returns:
        Trajectories whose `weights` hold the estimate of log p(x), its standard error and its ESS, (N,) each, in nats.
    """
    path = Path(MixtureStart(joint, mixture), num_chains)
    betas = (schedule or Sigmoid())(num_temperatures)
    return path.forward(betas, num_leapfrog_steps, on_progress or (lambda fraction: None))


@dataclass(frozen=True)
class AISTrajectory:
    """Chains that have gone all the way."""

    log_w: Tensor  # (chains, N), float64
    acceptance: Tensor  # (N,)
    steps: Tensor  # (T − 1, N), the size of each step, averaged over pilots

    @property
    def weights(self) -> WeightSums:
        """What the chains' weights add up to: log p̂(x), its standard error, ESS and largest weight, (N,) each."""
        return WeightSums.of(self.log_w)


class Path:
    """From a start q₀ to p(x, ·), for the points of one chunk."""

    def __init__(self, start: AnnealingStart, num_chains: int):
        self.start, self.num_chains, self.num_pilots = start, num_chains, num_pilots(num_chains)

    def forward(self, betas: Tensor, num_leapfrog_steps: int, on_progress: Callable[[float], None]) -> AISTrajectory:
        """From q₀ to p: weights whose mean is p(x)."""
        v = self.start.draw(self.num_pilots + self.num_chains)
        return self._walk(v, betas, StepSizeAdapter(self.num_pilots, v), num_leapfrog_steps, on_progress)

    def backward(
        self, z: Tensor, betas: Tensor, steps: Tensor, num_leapfrog_steps: int, on_progress: Callable[[float], None]
    ) -> AISTrajectory:
        """Go from an exact posterior draw z (1, N, d) to q₀, with weights whose mean is 1/p(x).

        The step sizes (T − 1, N) are those of a forward walk, which knew nothing of z.
        """
        v = self.start.coordinates(z).expand(self.num_chains, *z.shape[1:]).contiguous()
        return self._walk(v, betas.flip(0), FixedStepSizes(steps.flip(0)), num_leapfrog_steps, on_progress)

    def _walk(
        self,
        v: Tensor,
        betas: Tensor,
        sizes: StepSizeAdapter | FixedStepSizes,
        num_leapfrog_steps: int,
        on_progress: Callable[[float], None],
    ) -> AISTrajectory:
        value_and_grad = compile_density(self.start.log_densities, v)
        state = State(v, *value_and_grad(v))
        log_w = torch.zeros(v.shape[:2], dtype=torch.float64, device=v.device)
        accepted, step_sizes = torch.zeros_like(log_w), []
        for before, beta in zip(betas[:-1].tolist(), betas[1:].tolist(), strict=True):
            log_q, log_p = state.densities
            log_w += (beta - before) * (log_p.double() - log_q.double())
            if beta not in (0.0, 1.0):  # at the end nothing is weighted any more
                step_sizes.append(sizes.mean())
                step = sizes(v) * self.start.spread
                state, probability = trajectory(state, beta, step, num_leapfrog_steps, value_and_grad)
                accepted += probability
                sizes.learn(probability)
            on_progress(1 / (len(betas) - 1))
        counted = slice(len(v) - self.num_chains, None)
        return AISTrajectory(
            log_w[counted],
            accepted[counted].mean(0) / max(1, len(betas) - 2),
            torch.stack(step_sizes or [sizes.mean()]),
        )


def num_pilots(num_chains: int) -> int:
    """How many chains learn step sizes for the others."""
    return max(1, num_chains // 4)
