"""Step sizes of Hamiltonian trajectories: adapted by pilot chains, or given by an earlier walk."""

import torch
from torch import Tensor

TARGET_ACCEPTANCE = 0.65
MIN_STEP_SIZE, MAX_STEP_SIZE = 1e-4, 0.5  # in units of the start's spread


class StepSizeAdapter:
    """Step sizes that the pilots learn, each for itself and for its part of the other chains."""

    def __init__(self, count: int, u: Tensor):
        self.size = u.new_full((count, u.shape[1], 1), 0.25)
        self.average = u.new_full((count, u.shape[1], 1), TARGET_ACCEPTANCE)
        self.follows = torch.arange(len(u), device=u.device) % count  # a pilot follows itself

    def __call__(self, u: Tensor) -> Tensor:
        return self.size[self.follows]

    def learn(self, probability: Tensor) -> None:
        self.average = 0.9 * self.average + 0.1 * probability[: len(self.size)].unsqueeze(-1)
        factor = torch.where(self.average > TARGET_ACCEPTANCE, 1.02, 0.98)
        self.size = (self.size * factor).clamp(MIN_STEP_SIZE, MAX_STEP_SIZE)

    def mean(self) -> Tensor:
        return self.size.log().mean(0).exp().squeeze(-1)


class FixedStepSizes:
    """The step sizes of an earlier walk."""

    def __init__(self, steps: Tensor):
        self.steps = iter(steps)
        self.current = next(self.steps)

    def __call__(self, u: Tensor) -> Tensor:
        return self.current.unsqueeze(-1)

    def learn(self, probability: Tensor) -> None:
        self.current = next(self.steps, self.current)

    def mean(self) -> Tensor:
        return self.current
