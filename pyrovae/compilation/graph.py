"""Record the tensor operations of one run of a function as a graph."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


class HostReadError(RuntimeError):
    """A function read the value of a tensor, which a recording cannot follow."""


def record_graph(function: Callable[..., Any], inputs: Sequence[Tensor]) -> GraphModule:
    """Record what `function(*inputs)` does while it runs once. Other tensors that it reads become constants.

    `node.meta["layout"]` has shape, strides, type and device of each result. Raises `HostReadError`.
    """
    recorder = _Recorder()
    for place, value in enumerate(inputs):
        recorder.keep(value, recorder.graph.placeholder(f"input_{place}"))
    with recorder, _NoHostReads():
        outputs = function(*inputs)
    recorder.graph.output(tree_map_only(Tensor, recorder.node_of, outputs))
    return GraphModule(recorder.root, recorder.graph)


class _NoHostReads(TorchFunctionMode):
    """Raises `HostReadError` where values are read that no operation of the dispatcher reads."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.tolist, Tensor.numpy, Tensor.__array__):
            raise HostReadError("a tensor's values are read on the host")
        return func(*args, **(kwargs or {}))


class _Recorder(TorchDispatchMode):
    """While it is active, every operation becomes a node of its graph."""

    def __init__(self) -> None:
        super().__init__()
        self.graph, self.root = Graph(), torch.nn.Module()
        self.kept: dict[int, tuple[Tensor, Node]] = {}  # inputs and constants, which outlive the recording

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.data_dependent_output in func.tags:
            raise HostReadError("a tensor's value is read on the host")
        arguments, named = tree_map_only(Tensor, self.node_of, (args, kwargs or {}))
        result = func(*args, **(kwargs or {}))
        node = self.graph.call_function(func, tuple(arguments), named)
        if isinstance(result, Tensor):
            self._name(result, node)
        elif isinstance(result, list | tuple):
            for place, part in enumerate(result):
                if isinstance(part, Tensor):
                    self._name(part, self.graph.call_function(operator.getitem, (node, place)))
        return result

    def node_of(self, value: Tensor) -> Node:
        """The node whose result a tensor is, or else a constant."""
        if id(value) in self.kept:
            return self.kept[id(value)][1]
        recorder, node = getattr(value, "_recorded_as", (None, None))
        if recorder is self and node is not None:
            return node
        name = f"constant_{len(self.kept)}"
        setattr(self.root, name, value)
        return self.keep(value, self.graph.get_attr(name))

    def keep(self, value: Tensor, node: Node) -> Node:
        node.meta["layout"] = layout(value)
        self.kept[id(value)] = value, node
        return node

    def _name(self, value: Tensor, node: Node) -> None:
        if id(value) in self.kept:  # changed in place
            self.keep(value, node)
            return
        node.meta["layout"] = layout(value)
        value._recorded_as = self, node  # type: ignore[attr-defined]  # autograd may keep the tensor, and then this too


def layout(value: Tensor) -> tuple[Any, ...]:
    """All of a tensor but its numbers: shape, strides, type, device."""
    return value.shape, value.stride(), value.dtype, value.device
