"""One step along the gradient: as Pyro runs it, recorded and replayed, or compiled. A step that is no number moves nothing."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.optim import Optimizer

from ..compilation.compiling import bind_inputs, compile_graph
from ..compilation.replaying import replay_graph
from ..objectives import Terms
from ..utils.distributed import ProcessGroup
from .flat_parameters import FlatParameters, joined
from .recorded_loss import Loss, Recording, gradient_of

SCALARS = 3  # that processes sum beside the gradient, if there are so many: the terms of the loss


@dataclass
class ParameterUpdater:
    """What a step moves, and the rule by which it does."""

    flat: FlatParameters
    optimizer: Optimizer
    on_vector: bool  # the optimiser has the one vector, not the leaves
    max_grad_norm: float | None  # the largest norm of the gradient of a batch's mean
    decay: float | None  # of the moving average
    average: Tensor | None  # of the parameters
    units: Tensor | None = None  # of the parameters: what a step of size 1 moves each by
    num_updates: int = 0

    def update(self, gradient: Tensor, points: int) -> Tensor:
        """Move the parameters, unless the gradient is no number. Returns its norm for the mean over the batch."""
        if self.units is not None:
            gradient = gradient * self.units
        norm = gradient.norm() / points
        if not math.isfinite(float(norm)):
            return norm
        if self.max_grad_norm is not None:
            gradient = gradient * (self.max_grad_norm / norm).clamp(max=1.0)
        if self.on_vector:
            self.flat.vector.grad = gradient
        else:
            for leaf, part in zip(self.flat.leaves, self.flat.views(gradient), strict=True):
                leaf.grad = part
        if self.units is None:
            self.optimizer.step()
        else:
            self.flat.vector.data.div_(self.units)
            self.optimizer.step()
            self.flat.vector.data.mul_(self.units)
        self.num_updates += 1
        if self.average is not None and self.decay is not None:
            self.average.lerp_(self.flat.vector.detach(), 1 - _decay(self.decay, self.num_updates))
        return norm


def _decay(decay: float, num_updates: int) -> float:
    """Of the average after so many steps: lower in the beginning, lest the start weigh for long."""
    return min(decay, (1 + num_updates) / (10 + num_updates))


Step = Callable[[Tensor, Tensor], Tensor]  # of a batch and the KL's weight, to (*Terms.parts, norm of the gradient)


def eager_step(updater: ParameterUpdater, loss: Loss, group: ProcessGroup, points: int) -> Step:
    """The step as Pyro runs it; `points` is the size of the whole batch, of which this process may have a part."""
    gradient = gradient_of(loss, updater.flat)

    def step(x: Tensor, beta: Tensor) -> Tensor:
        terms, parts = gradient(x, beta)
        return _apply(updater, group, points, terms, joined(parts))

    return step


def _apply(updater: ParameterUpdater, group: ProcessGroup, points: int, terms: Terms, gradient: Tensor) -> Tensor:
    scalars = torch.stack([part.to(terms.loss) for part in terms.parts])
    if group.count > 1:
        none = gradient.new_zeros(SCALARS - len(scalars))
        both = group.sum(torch.cat([gradient, scalars.to(gradient), none]))
        gradient, scalars, _ = both.split([len(gradient), len(scalars), len(none)])
    if not math.isfinite(float(scalars[0])):
        return torch.cat([scalars, scalars[:1]])
    return torch.cat([scalars, updater.update(gradient, points).reshape(1)])


def replayed_step(
    updater: ParameterUpdater, recording: Recording, group: ProcessGroup, points: int, x: Tensor, beta: Tensor
) -> Step:
    """The same step without Pyro: loss and gradient are the recorded operations, one after another."""
    leaves = updater.flat.views(updater.flat.vector.data)
    replay = replay_graph(recording.graph, [*leaves, x, beta, *recording.constants], len(leaves))

    def step(x: Tensor, beta: Tensor) -> Tensor:
        with torch.no_grad():
            terms, parts = replay(x)
        return _apply(updater, group, points, Terms(*terms), joined(parts))

    return step


def compiled_step(
    updater: ParameterUpdater, recording: Recording, group: ProcessGroup, points: int, x: Tensor, beta: Tensor
) -> Step:
    """The same step as machine code: with its update where Adam is the pair's and it trains alone, else as far as the gradient.

    Raises `CompilationError`.
    """
    graph, constants = recording
    if group.count == 1 and updater.on_vector and type(updater.optimizer) is torch.optim.Adam:
        return _with_adam(updater, graph, points, x, beta, constants)

    def flat_graph(vector: Tensor, x: Tensor, beta: Tensor, *constants: Tensor) -> tuple[Tensor, ...]:
        terms, parts = graph(*updater.flat.views(vector), x, beta, *constants)
        return *terms, joined(parts)

    inputs = [updater.flat.vector.data, x, beta, *constants]
    run = bind_inputs(compile_graph(flat_graph, inputs), inputs, 1)

    def step(x: Tensor, beta: Tensor) -> Tensor:
        with torch.no_grad():
            *parts, gradient = run(x)
        return _apply(updater, group, points, Terms(*parts), gradient)

    return step


def _with_adam(
    updater: ParameterUpdater, graph: GraphModule, points: int, x: Tensor, beta: Tensor, constants: list[Tensor]
) -> Step:
    """Gradient, clipping, Adam and the moving average as one function of tensors, which changes its inputs in place."""
    settings, flat = updater.optimizer.param_groups[0], updater.flat
    (beta1, beta2), eps = settings["betas"], settings["eps"]
    vector, state = flat.vector.data, adam_state(updater)
    moving = [vector, state["exp_avg"], state["exp_avg_sq"], *([] if updater.average is None else [updater.average])]
    # On a GPU one kernel moves the one vector; on a CPU each leaf is moved by its gradient where that lies, and none is copied.
    by_leaf = vector.device.type == "cpu"
    fixed = [] if updater.units is None else [updater.units]
    pieces = [flat.views(value) if by_leaf else [value] for value in (*moving, *fixed)]
    # Adam in the order of Kingma & Ba 2015, end of section 2, with one division for each parameter: lr √(1 − β₂ᵗ) / (1 − β₁ᵗ) and
    # ε √(1 − β₂ᵗ); and the average's decay. The compiler would compute these powers anew for every parameter.
    rate, small, decay = (vector.new_ones(()) for _ in range(3))

    def whole(x: Tensor, rate: Tensor, small: Tensor, decay: Tensor, beta: Tensor, *tensors: Tensor) -> tuple[Tensor]:
        count = len(pieces[0])
        places = [tensors[start : start + count] for start in range(0, len(pieces) * count, count)]
        leaves = places[0] if by_leaf else flat.views(places[0][0])
        (value, *others), parts = graph(*leaves, x, beta, *tensors[len(pieces) * count :])
        gradients = parts if by_leaf else [joined(parts)]
        units: Sequence[Tensor | None] = [None] * count
        if fixed:
            *places, units = places
            gradients = [g * unit for g, unit in zip(gradients, units, strict=True)]
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt() / points
        # over two numbers, all() and amin() are reductions, made once; the compiler makes other scalars anew for every parameter
        fine = torch.isfinite(torch.stack([value, norm])).all()
        shrink = (
            None
            if updater.max_grad_norm is None
            else torch.stack([updater.max_grad_norm / norm, torch.ones_like(norm)]).amin()
        )
        for unit, g, p, m, v, *average in zip(units, gradients, *places, strict=True):
            g = g if shrink is None else g * shrink
            m1 = m * beta1 + g * (1 - beta1)
            v1 = v * beta2 + g * g * (1 - beta2)
            step = rate * m1 / (v1.sqrt() + small)
            moved = p - (step if unit is None else step * unit)
            for old in average:
                old.copy_(torch.where(fine, old.lerp(moved, 1 - decay), old))
            m.copy_(torch.where(fine, m1, m))
            v.copy_(torch.where(fine, v1, v))
            p.copy_(torch.where(fine, moved, p))
        return (torch.stack([value, *(other.to(value) for other in others), norm]),)

    inputs = [x, rate, small, decay, beta, *(piece for each in pieces for piece in each), *constants]
    run = bind_inputs(compile_graph(whole, inputs), inputs, 0)

    def step(x: Tensor, beta: Tensor) -> Tensor:
        num_updates = updater.num_updates + 1
        root = (1 - beta2**num_updates) ** 0.5
        rate.fill_(settings["lr"] * root / (1 - beta1**num_updates))
        small.fill_(eps * root)
        if updater.decay is not None:
            decay.fill_(_decay(updater.decay, num_updates))
        with torch.no_grad():
            (out,) = run(x)
        updater.num_updates = num_updates
        state["step"] += 1
        return out

    return step


def adam_state(updater: ParameterUpdater) -> dict[str, Tensor]:
    """Adam's moments of the vector, made where its first step has not yet made them."""
    state = updater.optimizer.state[updater.flat.vector]
    if not state:
        vector = updater.flat.vector.detach()
        state["step"] = torch.zeros((), dtype=torch.float32, device=vector.device)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(vector), torch.zeros_like(vector)
    return state
