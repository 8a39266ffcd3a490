"""Operations of a recording on a CPU, done in a quicker way.

Matrix products on processors that are not Intel's, for which MKL, whom torch asks, has its second-best kernels: large ones take
twice as long as by oneDNN, and narrow ones three times as long as their own transpose. And tanh, which oneDNN takes of a product
as it writes it down, and which compiled code takes from a library at four times the price of an exponential.
"""

import functools
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten
LARGE = 2_000_000  # multiplications; for fewer oneDNN takes longer to start than it saves
TANH = (torch.float32, torch.bfloat16, torch.float16)  # in double precision the library's is the only one
NARROW, SOME = 16, 50_000  # columns of a product, and multiplications from which they are too few

_library = torch.library.Library("pyrovae", "DEF")
# then(a b + bias), hidden from the compiler, which would put MKL in its place
_library.define("mm(Tensor a, Tensor b, Tensor? bias=None, str then='none') -> Tensor")


def _mm(a: Tensor, b: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(a, b.t(), bias, then, [], "")


def _mm_shape(a: Tensor, b: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    return a.new_empty(len(a), b.shape[1])


_library.impl("mm", _mm, "CPU")
torch.library.register_fake("pyrovae::mm", _mm_shape, lib=_library)
by_onednn = torch.ops.pyrovae.mm.default


@functools.cache
def teach_compiler() -> None:
    """Let compiled code call oneDNN itself for `by_onednn`, not by way of Python, which takes some microseconds each time."""
    from torch._inductor import lowering  # imported late: it takes a second

    call = lowering.fallback_handler(torch.ops.mkldnn._linear_pointwise.default, add_to_fallback_set=False)

    @lowering.register_lowering(by_onednn, type_promotion_kind=None)
    def mm(a: Any, b: Any, bias: Any = None, then: str = "none") -> Any:
        return call(a, lowering.lowerings[aten.permute.default](b, [1, 0]), bias, then, [], "")


def recorded(function: Callable[..., Any], inputs: Sequence[Tensor], rough: bool = False) -> fx.GraphModule:
    """The operations of one run of `function`, the quicker way where there is one: the same numbers but for rounding. Which way an
    operation goes follows from its shape and the processor alone, so that a run can be repeated bit for bit. With `rough` every
    e^{−|x|} is `exp_of_minus`, good enough for x that products in half precision have rounded."""
    graph = make_fx(function)(*inputs)
    if any(value.device.type != "cpu" for value in inputs):
        return graph
    if mkl_is_slow():
        teach_compiler()
        for node in list(graph.graph.nodes):
            if _is_one_product(node):
                with graph.graph.inserting_before(node):
                    _put_in_place(node, _quick(node, *node.args[-2:]))
    for node in list(graph.graph.nodes):
        if node.target is aten.tanh.default and _value(node.args[0]).dtype in TANH:
            _put_in_place(node, _operations(tanh, node, node.args[0]))
        elif rough and (size := _size(node)) is not None:
            _put_in_place(node, _operations(exp_of_minus, node, size))
    graph.graph.lint()
    graph.recompile()
    return graph


def _put_in_place(node: fx.Node, found: Any) -> None:
    """Let all who read the node read what was found instead, if anything was."""
    if found is not None:
        found.meta["val"] = _value(node)
        node.replace_all_uses_with(found)
        node.graph.erase_node(node)


def _operations(function: Callable[[Tensor], Tensor], before: fx.Node, x: Any) -> Any:
    """`function` of what the node x gives, as nodes of its operations in front of another."""
    graph = make_fx(function)(torch.zeros(1, dtype=_value(x).dtype)).graph
    with before.graph.inserting_before(before):
        return before.graph.graph_copy(graph, {next(iter(graph.nodes)): x})


def _size(node: fx.Node) -> Any:
    """|x| where the node is e^{−|x|}, in single precision."""
    minus = node.args[0] if node.target is aten.exp.default and _is_plain(_value(node)) else None
    size = minus.args[0] if isinstance(minus, fx.Node) and minus.target is aten.neg.default else None
    return size if isinstance(size, fx.Node) and size.target is aten.abs.default else None


def tanh(x: Tensor) -> Tensor:
    """1 − 2/(1 + e^{2x}), and where that cancels, |x| < ¼, the beginning of its series: within 8 units of rounding."""
    y = x.float()
    square = y * y
    small = y * (1 + square * (-1 / 3 + square * (2 / 15 + square * (-17 / 315 + square * (62 / 2835)))))
    return torch.where(square < 1 / 16, small, 1 - 2 / (1 + torch.exp(2 * y))).to(x.dtype)


def exp_of_minus(y: Tensor) -> Tensor:
    """e^{−y} of y ≥ 0 within 7e-6, and e^{−16} from 16 on: the sixteenth power of a cubic, whose worst error is least, 5.6e-6; the rest is
    rounding."""
    y = y.clamp(max=16.0)
    root = 0.99999965 + y * (-0.99991843 / 16 + y * (0.49761133 / 256 + y * (-0.14783517 / 4096)))
    for _ in range(4):
        root = root * root
    return root


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b of two matrices, outside of a recording too by oneDNN where that is quicker and no gradient is asked for."""
    quick = _is_plain(a) and _is_large(a, b) and mkl_is_slow()
    return by_onednn(a, b) if quick and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")) else a @ b


def _is_large(a: Tensor, b: Tensor) -> bool:
    least = LARGE if a.stride(-1) == 1 else 2 * LARGE  # what must be copied first costs more
    return a.numel() * b.shape[-1] >= least


def _is_plain(value: Tensor) -> bool:
    return value.device.type == "cpu" and value.dtype == torch.float32


def _is_one_product(node: fx.Node) -> bool:
    if node.target not in (aten.mm.default, aten.addmm.default, aten.bmm.default) or node.kwargs:
        return False
    first = _value(node.args[-2])
    kind = _is_plain(first) or first.dtype == torch.bfloat16
    return kind and (first.dim() == 2 or len(first) == 1)


def _quick(node: fx.Node, first: Any, second: Any) -> fx.Node | None:
    """The product first · second in another way; None: as it is."""
    a, b = _value(first), _value(second)
    large = _is_large(a, b)
    if not large and (b.shape[-1] >= NARROW or a.numel() * b.shape[-1] < SOME or not _is_plain(a)):
        return None
    call = node.graph.call_function
    if a.dim() == 3:
        first, second = (call(aten.squeeze.dim, (factor, 0)) for factor in (first, second))
    if not large:
        found = _flipped(aten.mm.default, first, second)
    # oneDNN copies the first factor where its rows are not one after another; flipped, the second, and the product is copied
    elif a.stride(-1) != 1 and a.numel() > (b.numel() if b.stride(-2) != 1 else 0) + a.shape[-2] * b.shape[-1]:
        found = _flipped(by_onednn, first, second)
    elif (tanh := _tanh_of(node)) is not None:
        tanh.replace_all_uses_with(tanh.args[0])  # type: ignore[arg-type]
        node.graph.erase_node(tanh)
        return call(by_onednn, (first, second, node.args[0], "tanh"))
    else:
        found = call(by_onednn, (first, second))
    if a.dim() == 3:
        found = call(aten.unsqueeze.default, (found, 0))
    # the sum of an addmm is left to the compiler, which joins it to what comes next
    return call(aten.add.Tensor, (found, node.args[0])) if node.target is aten.addmm.default else found


def _tanh_of(node: fx.Node) -> fx.Node | None:
    """The tanh of a product with a row added, perhaps of other shape by then, where nobody else reads either."""
    if node.target is not aten.addmm.default or _value(node.args[0]).dim() != 1:
        return None
    while len(node.users) == 1:
        node = next(iter(node.users))
        if node.target is aten.tanh.default:
            return node
        if node.target not in (aten.view.default, aten._unsafe_view.default):
            break
    return None


def _flipped(mm: Any, first: fx.Node, second: fx.Node) -> fx.Node:
    """(secondᵀ firstᵀ)ᵀ, in the memory's order that the product itself would have."""
    call = first.graph.call_function
    found = call(mm, (call(aten.t.default, (second,)), call(aten.t.default, (first,))))
    return call(aten.clone.default, (call(aten.t.default, (found,)),), {"memory_format": torch.contiguous_format})


def _value(node: Any) -> Tensor:
    return node.meta["val"]


@functools.cache
def mkl_is_slow() -> bool:
    """Whether torch multiplies by MKL on a processor which is not Intel's, and has oneDNN."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    try:
        processor = Path("/proc/cpuinfo").read_text()
    except OSError:
        processor = platform.processor()
    return "AuthenticAMD" in processor
