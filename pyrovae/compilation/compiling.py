"""Recorded operations as machine code: compiled on a CPU, and on a GPU one launch besides, a CUDA graph."""

import contextlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import in_one_line
from ..utils.random import fork_rng
from .graph import HostReadError, record_graph

Function = Callable[..., Any]  # of tensors, to a tuple of tensors

VECTOR_OPTIONS = ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw"]


class CompilationError(Exception):
    """What stops a step from being recorded, as the end of a sentence."""


def compile_graph(function: Function, inputs: Sequence[Tensor]) -> Function:
    """Compile `function` of tensors like `inputs`, which it may change in place.

    Noise comes from torch's own kernels, in their order. Raises `CompilationError`.
    """
    if inputs[0].device.type == "cpu" and not compiler():
        raise CompilationError("there is no C++ compiler: install g++, or name one in $CXX")
    import torch._inductor as inductor  # here, for it takes a second to import

    copies = [_copy(value) for value in inputs]  # recording runs the function
    try:
        with torch.no_grad(), fork_rng(inputs[0].device), _quiet():
            graph = record_graph(function, copies)
            with _describe_tensors_once():
                return inductor.compile(graph, [*copies], options=options(inputs[0].device))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise CompilationError(f"it cannot be compiled: {reason(error)}") from error


def options(device: torch.device) -> dict[str, Any]:
    """Return the compiler's options: noise by torch's own kernels and, on a CPU, calls from C++ and this process's vector width.

    Calls from C++ in place of Python take a quarter less time where tensors are small. Inductor would choose the same
    width. But its cache on the disk does not record it, so code for other vectors, kept by another process, would be run.
    """
    if device.type != "cpu":
        return {"fallback_random": True}
    from torch._inductor import config
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    vectors = {"cpp.vec_isa_ok": True} if config.cpp.vec_isa_ok is None and _compiles_vectors() else {}
    with config.patch(vectors):
        width = pick_vec_isa().bit_width()
    return {"fallback_random": True, "cpp_wrapper": True, "cpp.simdlen": width, **vectors}


def _compiles_vectors() -> bool:
    """Whether the C++ compiler takes the options of x86's vector units. torch finds out by a program that compiles for seconds."""
    question = [*compiler(), *VECTOR_OPTIONS, "-E", "-x", "c++", os.devnull]
    return subprocess.run(question, capture_output=True).returncode == 0


@contextlib.contextmanager
def _describe_tensors_once() -> Iterator[None]:
    """While compiling: keep one table of the tensors' shapes, where torch would make one for each operation.

    With the table, Inductor also looks up graphs in its cache on the disk. A graph that any process has compiled before
    then takes hundredths of a second, where it took seconds.
    """
    from torch._guards import TracingContext, tracing
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True, shape_env=ShapeEnv()))):
        yield


def _copy(value: Tensor) -> Tensor:
    """With the strides that it has: code is compiled for them."""
    once = value[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in value.stride())]
    return (
        torch.empty_strided(once.shape, once.stride(), dtype=once.dtype, device=once.device)
        .copy_(once)
        .expand_as(value)
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the compiler's makers tell one another: of deprecations, and of machines without CUDA."""
    loggers = [logging.getLogger(name) for name in ("torch.utils.cpp_extension", "torch._inductor.ir")]
    levels = [words.level for words in loggers]
    for words in loggers:
        words.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for words, level in zip(loggers, levels, strict=True):
            words.setLevel(level)


def compiler() -> list[str]:
    """The command by which torch compiles C++, in words: none where this machine does not have it."""
    words = shlex.split(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))
    return words if words and shutil.which(words[0]) else []


def bind_inputs(function: Function, inputs: Sequence[Tensor], x: int) -> Callable[[Tensor], Sequence[Tensor]]:
    """The function of x alone, the input at place `x`: on a GPU one launch. Raises `CompilationError`."""
    if inputs[0].device.type == "cuda":
        try:
            return CudaGraph(function, inputs, x)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise CompilationError(f"it cannot be captured as a CUDA graph: {reason(error)}") from error
    before, after = list(inputs[:x]), list(inputs[x + 1 :])
    return lambda batch: function(*before, batch, *after)


class CudaGraph:
    """A function of tensors as one launch, on the GPU of the tensors. `inputs` keep their places in memory; `x` is copied."""

    def __init__(self, function: Function, inputs: Sequence[Tensor], x: int):
        """`x` is the place of the batch among the inputs. The inputs come out as they went in."""
        self.inputs = [value.clone() if place == x else value for place, value in enumerate(inputs)]
        self.batch = self.inputs[x]
        before = [value.clone() for value in self.inputs]
        try:
            with torch.no_grad(), torch.cuda.device(self.batch.device):  # streams are those of the current GPU
                stream = torch.cuda.Stream()
                stream.wait_stream(torch.cuda.current_stream())
                with fork_rng(self.batch.device), torch.cuda.stream(stream):
                    for _ in range(3):  # a capture must find all workspaces made
                        function(*self.inputs)
                torch.cuda.current_stream().wait_stream(stream)
                self.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self.graph):
                    self.out = function(*self.inputs)
        finally:
            for value, old in zip(self.inputs, before, strict=True):
                value.copy_(old)

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        self.batch.copy_(x)
        with torch.cuda.device(self.batch.device):
            self.graph.replay()
        return tuple(value.clone() for value in self.out)


def reason(error: Exception) -> str:
    """Why something could not be recorded, as the end of a sentence."""
    if isinstance(error, HostReadError):
        return f"{error}, which a recording cannot follow"
    return f"{type(error).__name__}: {in_one_line(error)[:160]}"
