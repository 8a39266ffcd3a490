"""Leave out of a recorded graph what changes nothing: aliases, products with 1, equal operations, results that nobody reads."""

import operator
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

aten = torch.ops.aten
ALIASES = {aten.alias.default, aten.detach.default}
COPIES = {aten.clone.default, aten._to_copy.default, aten.lift_fresh_copy.default, aten.pow.Tensor_Scalar}
RESHAPES = {aten.view.default, aten._unsafe_view.default, aten.expand.default}
NEUTRAL = {aten.add.Tensor: 0, aten.sub.Tensor: 0, aten.mul.Tensor: 1, aten.div.Tensor: 1, aten.mul.Scalar: 1}


def simplify(graph: GraphModule) -> GraphModule:
    """Remove operations whose result is one of their arguments, and all but the first of equal operations.

    Draws of random numbers stay, in their order. A graph that writes into tensors keeps its copies and equal operations.
    """
    pure = not any(changes_tensors(node) for node in graph.graph.nodes)
    for node in list(graph.graph.nodes):
        same = _argument_that_equals(node, pure)
        if same is not None:
            node.replace_all_uses_with(same)
            graph.graph.erase_node(node)
    if pure:
        share_equal_operations(graph.graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def changes_tensors(node: Node) -> bool:
    """Return whether an operation writes into a tensor."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    # batch_norm moves its running statistics, and does not say so
    return node.target._schema.is_mutable or "batch_norm" in str(node.target)


def draws(node: Node) -> bool:
    """Return whether an operation takes random numbers from torch's generator."""
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags


def _argument_that_equals(node: Node, pure: bool) -> Node | None:
    """The argument whose numbers, shape and strides the result has."""
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], Node):
        return None
    first, target = node.args[0], node.target
    if target in ALIASES:
        return first
    if target is aten.t.default and first.target is aten.t.default and isinstance(first.args[0], Node):
        return first.args[0]
    if target in RESHAPES:
        return first if _layout(node) == _layout(first) else None
    if not pure or _layout(node) != _layout(first):
        return None
    if target is aten.pow.Tensor_Scalar:
        return first if node.args[1] == 1 else None
    if target in COPIES:
        return first
    return first if target in NEUTRAL and _is_number(node.args[1], NEUTRAL[target]) else None


def _is_number(value: Any, number: int) -> bool:
    return isinstance(value, int | float) and value == number


def _layout(node: Node) -> Any:
    return node.meta.get("layout", node)


def share_equal_operations(nodes: Graph) -> None:
    """Of operations that are equal, keep the first; two draws are never equal."""
    seen: dict[Any, Any] = {}
    for node in list(nodes.nodes):
        if node.op != "call_function" or changes_tensors(node) or draws(node):
            continue
        if not isinstance(node.target, torch._ops.OpOverload) and node.target is not operator.getitem:
            continue
        key = repr((str(node.target), node.args, sorted(node.kwargs.items())))  # nodes are named once
        if key in seen:
            node.replace_all_uses_with(seen[key])
            nodes.erase_node(node)
        else:
            seen[key] = node
    nodes.eliminate_dead_code()
    nodes.lint()
