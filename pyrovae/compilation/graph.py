"""Record the tensor operations of one run of a function as a graph."""

import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

READ = "it reads a tensor's value on the host (.item(), an if on a tensor)"


class HostReadError(RuntimeError):
    """What a function reads of a tensor that a recording cannot follow, as the beginning of a sentence."""


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
            raise HostReadError(READ)
        return func(*args, **(kwargs or {}))


class _Recorder(TorchDispatchMode):
    """While it is active, every operation becomes a node of its graph."""

    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.number, self.results = next(_Recorder.numbers), list[Node]()
        self.graph, self.root = Graph(), torch.nn.Module()
        self.kept: dict[int, tuple[Tensor, Node]] = {}  # inputs and constants, which outlive the recording

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.data_dependent_output in func.tags:
            raise HostReadError(READ)
        if torch.Tag.dynamic_output_shape in func.tags and _shape_depends_on_values(func, args):
            raise HostReadError("a tensor's shape depends on values (a mask as an index)")
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
        recorder, place = getattr(value, "_recorded_as", (-1, 0))
        if recorder == self.number:
            return self.results[place]
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
        # two numbers, for a tensor may outlive its recording; autograd gives back what it keeps with its attributes
        value._recorded_as = self.number, len(self.results)  # type: ignore[attr-defined]
        self.results.append(node)


def _shape_depends_on_values(func: Any, args: Any) -> bool:
    """Of indexing, only where a mask is the index."""
    if func is not torch.ops.aten.index.Tensor:
        return True
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])


def layout(value: Tensor) -> tuple[Any, ...]:
    """All of a tensor but its numbers: shape, strides, type, device."""
    return value.shape, value.stride(), value.dtype, value.device
