"""Record the tensor operations of one run of a function as a graph."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.fx import GraphModule


def record_graph(function: Callable[..., Any], inputs: Sequence[Tensor]) -> GraphModule:
    """Record what `function(*inputs)` does while it runs once. Other tensors that it reads become constants."""
    from torch.fx.experimental.proxy_tensor import make_fx  # takes a quarter of a second to import

    with describe_tensors_once():
        return make_fx(function)(*inputs)


@contextlib.contextmanager
def describe_tensors_once() -> Iterator[None]:
    """While recording or compiling: keep one table of the tensors' shapes, where torch would make one for each operation.

    Recording takes half of the time. With the table, Inductor also looks up graphs in its cache on the disk. A graph that any
    process has compiled before then takes hundredths of a second, where it took seconds.
    """
    from torch._guards import TracingContext, tracing
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True, shape_env=ShapeEnv()))):
        yield
