"""Hamiltonian trajectories along an annealing path q^(1−β) p^β, for many chains and points at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..posterior.compiled_density import ValueAndGrad


@dataclass(frozen=True)
class State:
    """Where chains are: u (C, N, d), log q and log p there (C, N), their gradients (C, N, d)."""

    u: Tensor
    densities: tuple[Tensor, ...]
    gradients: tuple[Tensor, ...]

    def energy(self, beta: float) -> Tensor:
        log_q, log_p = self.densities
        return -((1 - beta) * log_q + beta * log_p)

    def force(self, beta: float) -> Tensor:
        return (1 - beta) * self.gradients[0] + beta * self.gradients[1]

    def where(self, mask: Tensor, other: "State") -> "State":
        wide = mask.unsqueeze(-1)
        return State(
            torch.where(wide, self.u, other.u),
            tuple(torch.where(mask, a, b) for a, b in zip(self.densities, other.densities, strict=True)),
            tuple(torch.where(wide, a, b) for a, b in zip(self.gradients, other.gradients, strict=True)),
        )


def trajectory(
    state: State, beta: float, step: Tensor, num_leapfrog_steps: int, value_and_grad: ValueAndGrad
) -> tuple[State, Tensor]:
    """A Hamiltonian trajectory that leaves f_β invariant, and the probability (C, N) with which it was accepted.

    `step` (C, N, d) is jittered by up to a fifth, with one factor for each chain. With a single length, a trajectory
    may come back to where it began. Where the energy is no number, the trajectory is rejected.
    """
    step = step * (0.8 + 0.4 * torch.rand_like(state.u[..., :1]))
    momentum = torch.randn_like(state.u)
    before = state.energy(beta) + 0.5 * momentum.square().sum(-1)
    momentum = momentum + 0.5 * step * state.force(beta)
    here = state
    for number in range(num_leapfrog_steps):
        u = here.u + step * momentum
        here = State(u, *value_and_grad(u))
        momentum = momentum + (step if number + 1 < num_leapfrog_steps else 0.5 * step) * here.force(beta)
    after = here.energy(beta) + 0.5 * momentum.square().sum(-1)
    probability = torch.nan_to_num((before - after).clamp(max=0).exp(), nan=0.0)
    return here.where(torch.rand_like(probability) < probability, state), probability
