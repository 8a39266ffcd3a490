"""What a recorded function knew besides its inputs, made inputs of it."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.fx import GraphModule, Node


def lift_constants(graph: GraphModule, first: Sequence[Tensor] = ()) -> list[Tensor]:
    """Turn tensors that were recorded as constants (parameters, buffers) into inputs of the graph.

    Those of `first` go in front of its own inputs, known or not. All others go behind, and are returned.
    """
    nodes = graph.graph
    given = [node for node in nodes.nodes if node.op == "placeholder"]
    inputs: dict[int, Node] = {}
    for index, tensor in enumerate(first):
        with nodes.inserting_before(given[0]):
            inputs[id(tensor)] = nodes.placeholder(f"first_{index}")
    constants: list[Tensor] = []
    last = given[-1]
    for node in list(nodes.nodes):
        if node.target is torch.ops.aten._linalg_check_errors.default and _device(node.args[0]) == "cuda":
            nodes.erase_node(node)  # it waits for the GPU; a failed factorisation gives NaN, and that is found
            continue
        if node.op != "get_attr":
            continue
        value = getattr(graph, str(node.target))
        if id(value) not in inputs:
            with nodes.inserting_after(last):
                last = inputs[id(value)] = nodes.placeholder(f"constant_{len(constants)}")
            constants.append(value)
        node.replace_all_uses_with(inputs[id(value)])
        nodes.erase_node(node)
    nodes.eliminate_dead_code()
    nodes.lint()
    graph.recompile()
    return constants


def _device(node: Node) -> str:
    *_, device = node.meta["layout"]
    return str(device.type)
