"""A recorded graph as plain calls of torch: one flat Python function, which needs no compiler."""

import math
import operator
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from .simplification import changes_tensors, draws

aten = torch.ops.aten
# operations that read no numbers of their argument, only its shape and type
SHAPED_LIKE = {
    getattr(aten, name).default
    for name in ("ones_like", "zeros_like", "full_like", "new_zeros", "new_ones", "new_full")
}
NEUTRAL = {aten.add.Tensor: 0, aten.sub.Tensor: 0, aten.mul.Tensor: 1, aten.div.Tensor: 1}


def replay_graph(graph: GraphModule, inputs: Sequence[Tensor], x: int) -> Callable[[Tensor], Any]:
    """Write a graph as a Python function of the input at place `x` alone, to be called without gradients.

    The other inputs, and constants, are read at each call, where they are in memory now. What depends on no input is computed here, and
    so are views of those inputs. Random numbers are drawn in the order of the graph.
    """
    known = _known_before(graph, inputs, x)
    names: dict[Node, str] = {}
    held: dict[str, Any] = {}  # what the function refers to

    def hold(value: Any) -> str:
        held[f"held_{id(value)}"] = value
        return f"held_{id(value)}"

    def text(value: Any) -> str:
        if isinstance(value, Node):
            return hold(known[value]) if value in known else names[value]
        if isinstance(value, list | tuple):
            inside = "".join(f"{text(part)}, " for part in value)
            return f"[{inside}]" if isinstance(value, list) else f"({inside})"
        if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
            return repr(value)
        return hold(value)

    nodes = [node for node in graph.graph.nodes if node not in known]
    last_use = {argument: node for node in nodes for argument in node.all_input_nodes}
    lines = []
    for number, node in enumerate(nodes):
        names[node] = "x" if node.op == "placeholder" else f"result_{number}"
        if node.op == "output":
            lines.append(f"return {text(node.args[0])}")
        elif node.op == "call_function":
            values = [*map(text, node.args), *(f"{key}={text(value)}" for key, value in node.kwargs.items())]
            lines.append(f"{names[node]} = {hold(_binding(node.target))}({', '.join(values)})")
            done = [used for used in node.all_input_nodes if used not in known and last_use[used] is node]
            done += [] if node.users else [node]
            lines += [f"del {names[used]}" for used in done if names[used] != "x"]  # its memory is free from here on
    body = "\n        ".join(lines)
    scope: dict[str, Any] = {}
    exec(f"def make({', '.join(held)}):\n    def replay(x):\n        {body}\n    return replay", scope)
    replay: Callable[[Tensor], Any] = scope["make"](**held)
    return replay


def _known_before(graph: GraphModule, inputs: Sequence[Tensor], x: int) -> dict[Node, Any]:
    """The tensors that are there before a call: inputs other than x, their views, and what depends on no input.

    Sums with 0 and products with 1 are taken out of the graph.
    """
    pure = not any(changes_tensors(node) for node in graph.graph.nodes)
    known: dict[Node, Any] = {}
    fixed: set[Node] = set()  # of them, those whose numbers never change
    places = iter(range(len(inputs)))
    for node in list(graph.graph.nodes):
        if node.op == "placeholder" and (place := next(places)) != x:
            known[node] = inputs[place]
        if node.op == "get_attr":
            known[node] = getattr(graph, str(node.target))
        if node.op != "call_function" or draws(node) or changes_tensors(node):
            continue
        arguments = node.all_input_nodes
        if pure and node.target in SHAPED_LIKE:
            shape, strides, dtype, device = node.args[0].meta["layout"]
            like = torch.empty_strided(shape, strides, dtype=dtype, device=device)
            known[node] = _run(node, {**known, node.args[0]: like})
            fixed.add(node)
        elif pure and all(argument in fixed for argument in arguments):
            known[node] = _run(node, known)
            fixed.add(node)
        elif _is_view(node.target) and all(argument in known for argument in arguments):
            known[node] = _run(node, known)
        elif pure and (same := _unchanged(node, known, fixed)) is not None:
            node.replace_all_uses_with(same)
            graph.graph.erase_node(node)
    return known


def _run(node: Node, known: dict[Node, Any]) -> Any:
    operation: Any = node.target
    with torch.no_grad():
        return operation(*map_arg(node.args, known.__getitem__), **map_arg(node.kwargs, known.__getitem__))


def _is_view(target: Any) -> bool:
    if target is operator.getitem:
        return True
    returned = [value.alias_info for value in target._schema.returns]
    return bool(returned) and all(alias is not None and not alias.is_write for alias in returned)


def _unchanged(node: Node, known: dict[Node, Any], fixed: set[Node]) -> Node | None:
    """The first argument, where the second is a fixed tensor of zeros that is added, or of ones that it is multiplied with."""
    if node.target not in NEUTRAL or node.kwargs:
        return None
    first, second = node.args
    if not isinstance(first, Node) or not isinstance(second, Node) or second not in fixed:
        return None
    if first.meta["layout"] != node.meta["layout"]:
        return None
    return first if bool((known[second] == NEUTRAL[node.target]).all()) else None


def _binding(target: Any) -> Callable[..., Any]:
    """The same operation by torch's own binding, where there is one: a call takes less time."""
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
        return target
    if any(str(argument.type) == "List[Optional[Tensor]]" for argument in target._schema.arguments):
        return target  # indices with gaps, which the bindings do not take
    name = target._schema.name.removeprefix("aten::")
    function, method = getattr(torch, name, None), getattr(Tensor, name, None)
    if isinstance(function, types.BuiltinFunctionType):
        return function
    arguments = target._schema.arguments
    if isinstance(method, types.MethodDescriptorType) and arguments and arguments[0].name == "self":
        return method
    return target
