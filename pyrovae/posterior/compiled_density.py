"""A density that is recorded once and replayed without Python, for chains of thousands of steps.

What does not depend on the latents, above all the encoder, is computed once.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from ..compilation.graph import layout, record_graph
from ..compilation.replaying import replay_graph
from ..compilation.simplification import simplify
from .joint_density import per_point

Densities = Callable[[Tensor], tuple[Tensor, ...]]
ValueAndGrad = Callable[[Tensor], tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]


def compile_density(function: Densities, u: Tensor) -> ValueAndGrad:
    """`per_point(function, ·)` for arguments of u's shape, as a recorded graph where that can be had, else as it is.

    The graph is first compared with the function at u and at another point. A model that branches on its latents has
    more than one graph.
    """

    def run(u: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return per_point(function, u)

    u = u.contiguous()
    expected = run(u)  # parameters exist from here on, and errors are the model's own
    try:
        graph = record_graph(run, (u,))
        if not _changes_or_draws(graph):
            graph = _fold(graph)
        elsewhere = u.flip(0) * 0.9 + 0.1  # other draws of the same points
        replay = replay_graph(simplify(graph), [u], 0)
        with torch.no_grad():
            agrees = _close(replay(u), expected) and _close(replay(elsewhere), run(elsewhere))
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever the recorder does not know; the model itself has just been run
        return run
    return CompiledDensity(replay) if agrees else run


@dataclass(frozen=True)
class CompiledDensity:
    """A recorded density, for one shape of u."""

    replay: ValueAndGrad

    def __call__(self, u: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        with torch.no_grad():
            return self.replay(u.contiguous())  # strides are recorded too


def _close(outputs: Any, expected: Any) -> bool:
    return all(
        torch.allclose(a, b, rtol=0, atol=_rounding(b), equal_nan=True)
        for ours, theirs in zip(outputs, expected, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )


def _rounding(value: Tensor) -> float:
    """A thousand units of it in the largest of these numbers, and at least in 1."""
    return 1024 * torch.finfo(value.dtype).eps * (1 + float(value.nan_to_num(0.0, 0.0, 0.0).abs().max()))


def _changes_or_draws(graph: fx.GraphModule) -> bool:
    """Return whether a tensor that depends on u is written into one that does not, or a random number is drawn.

    Then what was computed once would be stale.
    """
    moving = _moving(graph)
    for node in graph.graph.nodes:
        if not isinstance(node.target, torch._ops.OpOverload):
            continue
        if torch.Tag.nondeterministic_seeded in node.target.tags:
            return True
        if node.target._schema.is_mutable and node in moving:
            return True
    return False


def _moving(graph: fx.GraphModule) -> set[fx.Node]:
    """The nodes that depend on u."""
    moving: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if node.op == "placeholder" or any(argument in moving for argument in node.all_input_nodes):
            moving.add(node)
    return moving


def _fold(graph: fx.GraphModule) -> fx.GraphModule:
    """The graph with all that does not depend on u computed, and all that nobody reads left out."""
    moving, fixed = _moving(graph), {}
    for node in graph.graph.nodes:
        if node in moving or node.op == "output":
            continue
        if node.op == "get_attr":
            fixed[node] = operator.attrgetter(node.target)(graph)
        else:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda argument: fixed[argument])
            fixed[node] = node.target(*args, **kwargs)
    for number, (node, value) in enumerate(fixed.items()):
        if isinstance(value, Tensor) and any(user not in fixed for user in node.users):
            graph.register_buffer(f"fixed_{number}", value.detach())
            with graph.graph.inserting_before(node):
                constant = graph.graph.get_attr(f"fixed_{number}")
            constant.meta["layout"] = layout(value)
            node.replace_all_uses_with(constant)
    for node in reversed(graph.graph.nodes):
        if not node.users and node.op in ("call_function", "get_attr"):
            graph.graph.erase_node(node)
    graph.recompile()
    return graph
