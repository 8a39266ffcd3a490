"""One step's tensor operations, recorded from one run of it: Pyro's messages cost more than the arithmetic of a small model.

The loss is recorded first and differentiated after equal operations have been merged. A guide that is the exact
posterior computes the model's own density, so one copy is differentiated instead of two.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functionalize
from torch.fx import GraphModule

from ..compilation.compiling import CompilationError, reason
from ..compilation.constants import lift_constants
from ..compilation.graph import record_graph
from ..compilation.simplification import share_equal_operations, simplify
from ..objectives import Terms
from ..utils.random import fork_rng
from .flat_parameters import FlatParameters, joined

Loss = Callable[[Tensor, Tensor], Terms]  # of a batch and the KL's weight


class Recording(NamedTuple):
    """`graph(*leaves, x, beta, *constants)` gives a batch's `Terms.parts` and the gradient of each leaf.

    Constants are all other tensors that it reads: buffers, and parameters that are not trained.
    """

    graph: GraphModule
    constants: list[Tensor]


def gradient_of(loss: Loss, flat: FlatParameters) -> Callable[[Tensor, Tensor], tuple[Terms, Sequence[Tensor]]]:
    """A batch's loss and its gradient, a part for each leaf, as Pyro runs it."""

    def gradient(x: Tensor, beta: Tensor) -> tuple[Terms, Sequence[Tensor]]:
        terms = loss(x, beta)
        parts = torch.autograd.grad(terms.loss, flat.leaves, allow_unused=True, materialize_grads=True)
        return Terms(*(part.detach() for part in terms.parts)), parts

    return gradient


def record_step(loss: Loss, flat: FlatParameters, x: Tensor, beta: Tensor, modules: Sequence[nn.Module]) -> Recording:
    """Record loss and gradient of a batch, and compare them with Pyro's own of another batch.

    Parameters, buffers and the KL's weight are read at each call, and noise is drawn then, in the eager step's order. Raises
    `CompilationError` where Python or the host decides something on the way, or another batch goes another way.
    """
    gradient = gradient_of(loss, flat)
    buffers = [buffer for module in modules for buffer in module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    other = x.flip(0)
    try:  # recording is a step: it draws, and it moves batch statistics
        with fork_rng(x.device, 0):
            terms, expected = gradient(other, beta)
        unchanged = python_values(modules)
        for record in (_shared_first, _as_run):
            recording = record(loss, flat, x, beta)
            if python_values(modules) != unchanged:
                raise CompilationError("the pair changes an attribute of a module at each call")
            with fork_rng(x.device, 0), torch.no_grad():
                _restore(buffers, before)
                (value, *_), parts = recording.graph(*flat.views(flat.vector.data), other, beta, *recording.constants)
            if _close(value, terms.loss) and _close(joined(parts), joined(expected)):
                return recording
    except (CompilationError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise CompilationError(reason(error)) from error
    finally:
        _restore(buffers, before)
    raise CompilationError("the pair does something else at another call, which a recording would not follow")


def python_values(modules: Sequence[nn.Module]) -> list[Any]:
    """Numbers and texts that are attributes of modules: what a model may read in Python, and a recording has fixed."""
    return [
        (name, value)
        for module in modules
        for part in module.modules()
        for name, value in vars(part).items()
        if value is None or isinstance(value, bool | int | float | str)
    ]


def _close(value: Tensor, expected: Tensor) -> bool:
    """Equal but for the order of sums."""
    return bool((value - expected).norm() <= 1e-3 * expected.norm()) or not bool(torch.isfinite(expected).all())


def _restore(buffers: list[Tensor], before: list[Tensor]) -> None:
    with torch.no_grad():
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)


def _shared_first(loss: Loss, flat: FlatParameters, x: Tensor, beta: Tensor) -> Recording:
    """Record the loss, merge equal operations, differentiate.

    It is wrong where code hides operations from autograd (no_grad, a Function of its own). The caller finds that by
    comparison.
    """
    with fork_rng(x.device):
        graph = record_graph(lambda x, beta: loss(x, beta).parts, (x, beta))
    constants = [value.detach() for value in lift_constants(graph, flat.leaves)]
    values = [leaf.detach() for leaf in flat.leaves]
    with torch.no_grad(), fork_rng(x.device):
        graph = record_graph(functionalize(graph, remove="mutations"), (*values, x, beta, *constants))
    for node in graph.graph.nodes:
        if node.target is torch.ops.aten.alias.default:
            node.target = torch.ops.aten.detach.default  # which is what .detach() is recorded as
        if node.target is torch.ops.aten.copy.default:
            node.target = _copied
    share_equal_operations(graph.graph)
    graph.recompile()

    def gradient(*tensors: Tensor) -> tuple[tuple[Tensor, ...], Sequence[Tensor]]:
        leaves, others = tensors[: len(values)], tensors[len(values) :]
        with torch.enable_grad():
            own = [leaf.detach().requires_grad_() for leaf in leaves]
            terms = graph(*own, *others)
            parts = torch.autograd.grad(terms[0], own, allow_unused=True, materialize_grads=True)
        return tuple(term.detach() for term in terms), parts

    with fork_rng(x.device):
        return Recording(simplify(record_graph(gradient, (*values, x, beta, *constants))), constants)


def _copied(like: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """What `like.copy_(source)` leaves in `like`, in operations that have a derivative (a low-rank normal's factor is made so)."""
    return source.to(like).expand_as(like)


def _as_run(loss: Loss, flat: FlatParameters, x: Tensor, beta: Tensor) -> Recording:
    """Record loss and gradient together, as autograd runs them."""
    gradient = gradient_of(loss, flat)

    def operations(x: Tensor, beta: Tensor) -> tuple[tuple[Tensor, ...], Sequence[Tensor]]:
        terms, parts = gradient(x, beta)
        return tuple(terms.parts), parts

    with fork_rng(x.device):
        graph = record_graph(operations, (x, beta))
    constants = [value.detach() for value in lift_constants(graph, flat.leaves)]
    return Recording(simplify(graph), constants)
