"""One SVI step, recorded once and replayed without Python: compiled on a CPU, a CUDA graph on a GPU.

Pyro's messages cost more than the arithmetic of a small model. `make_fx` runs the step once and keeps only its tensor
operations; `torch.compile` makes code of them. Parameters, buffers and the KL's weight are read anew at each call, and noise is
drawn anew, from torch's generator in the order in which the eager step draws it, so that both have the same losses.
"""

import contextlib
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch._inductor
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from ..running import fork_rng, in_one_line
from .flat import Flat
from .objectives import Terms

Loss = Callable[[Tensor, Tensor], Terms]  # of a batch and the KL's weight
Function = Callable[..., Any]  # of tensors, to a tuple of tensors


class Unrecordable(Exception):
    """What stops a step from being recorded, as the end of a sentence."""


def gradient_of(loss: Loss, flat: Flat) -> Callable[[Tensor, Tensor], tuple[Terms, Tensor]]:
    """A batch's loss and its gradient, one vector, as Pyro runs it."""

    def gradient(x: Tensor, beta: Tensor) -> tuple[Terms, Tensor]:
        terms = loss(x, beta)
        parts = torch.autograd.grad(terms.loss, flat.leaves, allow_unused=True, materialize_grads=True)
        return Terms(*(term.detach() for term in terms)), torch.cat([part.reshape(-1) for part in parts])

    return gradient


def record(
    loss: Loss, flat: Flat, x: Tensor, beta: Tensor, modules: Sequence[nn.Module]
) -> tuple[Function, list[Tensor]]:
    """The tensor operations of one step, `graph(vector, x, beta, *buffers)` → loss, reconstruction, gradient; and the buffers.

    Raises `Unrecordable` where Python or the host decides something on the way, or where another batch would go another way.
    """
    gradient = gradient_of(loss, flat)

    def operations(x: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        terms, vector = gradient(x, beta)
        return terms.loss, terms.reconstruction, vector

    buffers = [buffer for module in modules for buffer in module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:  # recording is a step: it draws, and it moves batch statistics
        with fork_rng(x.device):
            graph = make_fx(operations)(x, beta)
        used = _with_inputs(graph, flat, buffers)
        other = x.flip(0)
        with fork_rng(x.device, 0):
            expected = operations(other, beta)[0]
        with fork_rng(x.device, 0), torch.no_grad():
            found = graph(flat.vector.data, other, beta, *used)[0]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise Unrecordable(_reason(error)) from error
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
    if not torch.allclose(expected, found, rtol=1e-4, equal_nan=True):
        raise Unrecordable("the pair does something else at another call, which a recording would not follow")
    return graph, used


def _with_inputs(graph: GraphModule, flat: Flat, buffers: list[Tensor]) -> list[Tensor]:
    """What was recorded as a constant and is none becomes an input: leaves are read from the vector of parameters, the first
    argument; the buffers that are used, last, are returned."""
    nodes = graph.graph
    given = [node for node in nodes.nodes if node.op == "placeholder"]
    with nodes.inserting_before(given[0]):
        vector = nodes.placeholder("vector")
    places = {id(leaf): (place, leaf) for place, leaf in zip(flat.places, flat.leaves, strict=True)}
    live = {id(buffer): buffer for buffer in buffers}
    inputs: dict[int, Any] = {}
    last = given[-1]
    for node in list(nodes.nodes):
        if node.op != "get_attr":
            continue
        value = getattr(graph, str(node.target))
        if id(value) in live and id(value) not in inputs:
            with nodes.inserting_after(last):
                last = inputs[id(value)] = nodes.placeholder(f"buffer_{len(inputs)}")
        if id(value) in inputs:
            node.replace_all_uses_with(inputs[id(value)])
            nodes.erase_node(node)
        elif id(value) in places:
            (start, end), leaf = places[id(value)]
            with nodes.inserting_before(node):
                part = nodes.call_function(torch.ops.aten.slice.Tensor, (vector, 0, start, end))
                view = nodes.call_function(torch.ops.aten.view.default, (part, list(leaf.shape)))
            node.replace_all_uses_with(view)
            nodes.erase_node(node)
    nodes.lint()
    graph.recompile()
    return [live[key] for key in inputs]


def compiled(function: Function, inputs: Sequence[Tensor]) -> Function:
    """Machine code for `function` of tensors like `inputs`, which it may change in place. Noise comes from torch's own kernels,
    in their order. Raises `Unrecordable`."""
    if inputs[0].device.type == "cpu" and compiler() is None:
        raise Unrecordable("there is no C++ compiler: install g++, or name one in $CXX")
    copies = [value.clone() for value in inputs]  # recording runs the function
    try:
        with torch.no_grad(), fork_rng(inputs[0].device), _quiet():
            graph = make_fx(function)(*copies)
            return torch._inductor.compile(graph, [*copies], options={"fallback_random": True})
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise Unrecordable(f"it cannot be compiled: {_reason(error)}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the compiler's makers tell one another: of deprecations, and of machines without CUDA."""
    words = logging.getLogger("torch.utils.cpp_extension")
    level = words.level
    words.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        words.setLevel(level)


def compiler() -> str | None:
    """The C++ compiler that compiled code would be made with."""
    return shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")


def replayed(function: Function, inputs: Sequence[Tensor], x: int) -> Callable[[Tensor], Sequence[Tensor]]:
    """The function of x alone, the input at place `x`: on a GPU one launch."""
    if inputs[0].device.type == "cuda":
        return CudaGraph(function, inputs, x)
    before, after = list(inputs[:x]), list(inputs[x + 1 :])
    return lambda batch: function(*before, batch, *after)


class CudaGraph:
    """A function of tensors as one launch. `inputs` keep their places in memory, but for `x`, which is copied to its own."""

    def __init__(self, function: Function, inputs: Sequence[Tensor], x: int):
        """`x` is the place of the batch among the inputs. The inputs come out as they went in."""
        self.inputs = [value.clone() if place == x else value for place, value in enumerate(inputs)]
        self.batch = self.inputs[x]
        before = [value.clone() for value in self.inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), fork_rng(self.batch.device), torch.cuda.stream(stream):
            for _ in range(3):  # a capture must find all workspaces made
                function(*self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self.graph):
            self.out = function(*self.inputs)
        for value, old in zip(self.inputs, before, strict=True):
            value.copy_(old)

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        self.batch.copy_(x)
        self.graph.replay()
        return tuple(value.clone() for value in self.out)


def _reason(error: Exception) -> str:
    said = in_one_line(error)
    if "_local_scalar_dense" in said or "data-dependent" in said.lower() or "get a value out of" in said.lower():
        return "it reads a tensor's value on the host (.item(), an if on a tensor), which a recording cannot follow"
    return f"{type(error).__name__}: {said[:160]}"
