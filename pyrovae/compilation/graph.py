"""Record the tensor operations of one run of a function as a graph."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.fx import GraphModule


def record_graph(function: Callable[..., Any], inputs: Sequence[Tensor]) -> GraphModule:
    """Record what `function(*inputs)` does while it runs once. Other tensors that it reads become constants."""
    from torch.fx.experimental.proxy_tensor import make_fx  # takes a quarter of a second to import

    return make_fx(function)(*inputs)
