"""One step along the gradient: as Pyro runs it, or recorded once and replayed. A step that is no number moves nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..objectives import Terms
from ..recordings.compiling import compiled, replayed
from .flat import Flat
from .ranks import Ranks
from .recording import Loss, gradient_of, record

# Steps after which a recording, which costs seconds, has paid for itself; on a GPU it costs less and saves more.
RECORD_FROM = {"cpu": 4000, "cuda": 500}

SCALARS = 3  # that processes sum beside the gradient, if there are so many: the terms of the loss


@dataclass
class Learner:
    """What a step moves, and the rule by which it does."""

    flat: Flat
    optimizer: Optimizer
    on_vector: bool  # the optimiser has the one vector, not the leaves
    clip: float | None  # the largest norm of the gradient of a batch's mean
    decay: float | None  # of the moving average
    average: Tensor | None  # of the parameters
    taken: int = 0

    def update(self, gradient: Tensor, points: int) -> Tensor:
        """Move the parameters, unless the gradient is no number. Returns its norm for the mean over the batch."""
        norm = gradient.norm() / points
        if not bool(torch.isfinite(norm)):
            return norm
        if self.clip is not None:
            gradient = gradient * (self.clip / norm).clamp(max=1.0)
        if self.on_vector:
            self.flat.vector.grad = gradient
        else:
            for leaf, part in zip(self.flat.leaves, self.flat.views(gradient), strict=True):
                leaf.grad = part
        self.optimizer.step()
        self.taken += 1
        if self.average is not None and self.decay is not None:
            self.average.lerp_(self.flat.vector.detach(), 1 - _decay(self.decay, self.taken))
        return norm


def _decay(decay: float, taken: int) -> float:
    """Of the average after so many steps: lower in the beginning, lest the start weigh for long."""
    return min(decay, (1 + taken) / (10 + taken))


Step = Callable[[Tensor, Tensor], Tensor]  # of a batch and the KL's weight, to (*Terms.parts, norm of the gradient)


def eager_step(learner: Learner, loss: Loss, ranks: Ranks, points: int) -> Step:
    """The step as Pyro runs it; `points` is the size of the whole batch, of which this process may have a part."""
    gradient = gradient_of(loss, learner.flat)

    def step(x: Tensor, beta: Tensor) -> Tensor:
        terms, vector = gradient(x, beta)
        return _apply(learner, ranks, points, terms, vector)

    return step


def _apply(learner: Learner, ranks: Ranks, points: int, terms: Terms, gradient: Tensor) -> Tensor:
    scalars = torch.stack([part.to(terms.loss) for part in terms.parts])
    if ranks.count > 1:
        none = gradient.new_zeros(SCALARS - len(scalars))
        both = ranks.sum(torch.cat([gradient, scalars.to(gradient), none]))
        gradient, scalars, _ = both.split([len(gradient), len(scalars), len(none)])
    if not bool(torch.isfinite(scalars[0])):
        return torch.cat([scalars, scalars[:1]])
    return torch.cat([scalars, learner.update(gradient, points).reshape(1)])


def recorded_step(
    learner: Learner, loss: Loss, ranks: Ranks, points: int, x: Tensor, beta: Tensor, modules: Sequence[nn.Module]
) -> Step:
    """The same step without Pyro: with its update where Adam is the pair's and it trains alone, else as far as the gradient.

    Raises `Unrecordable`.
    """
    graph, buffers = record(loss, learner.flat, x, beta, modules)
    vector = learner.flat.vector.data
    if ranks.count == 1 and learner.on_vector and type(learner.optimizer) is torch.optim.Adam:
        return _with_adam(learner, graph, points, x, beta, buffers)
    inputs = [vector, x, beta, *buffers]
    code = compiled(graph, inputs)
    replay = replayed(code, inputs, 1)

    def step(x: Tensor, beta: Tensor) -> Tensor:
        with torch.no_grad():
            *parts, gradient = replay(x)
        return _apply(learner, ranks, points, Terms(*parts), gradient)

    return step


def _with_adam(
    learner: Learner, graph: Callable[..., Any], points: int, x: Tensor, beta: Tensor, buffers: list[Tensor]
) -> Step:
    """Gradient, clipping, Adam and the moving average as one function of tensors, which changes its inputs in place."""
    settings = learner.optimizer.param_groups[0]
    (beta1, beta2), eps = settings["betas"], settings["eps"]
    vector = learner.flat.vector.data
    state = adam_state(learner)
    average = learner.average if learner.average is not None else vector.new_empty(0)
    # Adam in the order of Kingma & Ba 2015, end of section 2, with one division for each parameter: lr √(1 − β₂ᵗ) / (1 − β₁ᵗ) and
    # ε √(1 − β₂ᵗ); and the average's decay. The compiler would compute these powers anew for every parameter.
    rate, small, decay = (vector.new_ones(()) for _ in range(3))

    def whole(
        x: Tensor,
        vector: Tensor,
        m: Tensor,
        v: Tensor,
        average: Tensor,
        rate: Tensor,
        small: Tensor,
        decay: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor]:
        value, *others, g = graph(vector, x, *rest)
        norm = g.norm() / points
        # over two numbers, all() and amin() are reductions, made once; the compiler makes other scalars anew for every parameter
        fine = torch.isfinite(torch.stack([value, norm])).all()
        if learner.clip is not None:
            g = g * torch.stack([learner.clip / norm, torch.ones_like(norm)]).amin()
        m1 = m * beta1 + g * (1 - beta1)
        v1 = v * beta2 + g * g * (1 - beta2)
        moved = vector - rate * m1 / (v1.sqrt() + small)
        if learner.decay is not None:
            average.copy_(torch.where(fine, average.lerp(moved, 1 - decay), average))
        m.copy_(torch.where(fine, m1, m))
        v.copy_(torch.where(fine, v1, v))
        vector.copy_(torch.where(fine, moved, vector))
        return (torch.stack([value, *(other.to(value) for other in others), norm]),)

    inputs = [x, vector, state["exp_avg"], state["exp_avg_sq"], average, rate, small, decay, beta, *buffers]
    replay = replayed(compiled(whole, inputs), inputs, 0)

    def step(x: Tensor, beta: Tensor) -> Tensor:
        taken = learner.taken + 1
        root = (1 - beta2**taken) ** 0.5
        rate.fill_(settings["lr"] * root / (1 - beta1**taken))
        small.fill_(eps * root)
        if learner.decay is not None:
            decay.fill_(_decay(learner.decay, taken))
        with torch.no_grad():
            (out,) = replay(x)
        learner.taken = taken
        state["step"] += 1
        return out

    return step


def adam_state(learner: Learner) -> dict[str, Tensor]:
    """Adam's moments of the vector, made where its first step has not yet made them."""
    state = learner.optimizer.state[learner.flat.vector]
    if not state:
        vector = learner.flat.vector.detach()
        state["step"] = torch.zeros((), dtype=torch.float32, device=vector.device)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(vector), torch.zeros_like(vector)
    return state
