"""A device that is not there, with numbers: tensors of type "meta" that hold a tensor of the CPU, which does the work.

Whole fits and evaluations run on it, reads by Python included. As on a GPU, an operation on tensors of two devices fails, and so does
`.numpy()`. One number of the CPU may be combined with any, and indices may be on the CPU.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

aten = torch.ops.aten
DEVICE = torch.device("meta")
MOVES = {aten._to_copy.default, aten.copy_.default, aten.copy.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class There(Tensor):
    """A tensor on the pretended device; `held` is where its numbers are."""

    held: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, requires_grad: bool = False) -> "There":
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, **layout, device=DEVICE, requires_grad=requires_grad
        )
        made.held = inner
        return made

    def __repr__(self) -> str:
        return f"There({self.held})"

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert a tensor of another device to numpy: copy it to host memory first")

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == Tensor.data.__get__:
            return There(args[0].held.detach())
        if func == Tensor.data.__set__:
            args[0].held = args[1].held
            return None
        if func in (Tensor.__getitem__, Tensor.__setitem__):  # torch moves a list of indices in a way that no mode sees
            args = (args[0], _with_tensors(args[1]), *args[2:])
        with torch._C.DisableTorchFunctionSubclass():  # results on the CPU stay what they are
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class GeneratorOfTheProcessor(torch.Generator):
    def __new__(cls, device: Any = "cpu") -> torch.Generator:
        return super().__new__(cls, "cpu")


class NumbersThere(TorchFunctionMode):
    """torch.tensor(…, device="meta") holds its numbers; no other mode sees where they go."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if func not in (torch.tensor, torch.as_tensor) or device is None or torch.device(device) != DEVICE:
            return func(*args, **kwargs)
        if isinstance(args[0], There):
            return func(args[0], dtype=kwargs.get("dtype"))
        return There(func(*args, **{**kwargs, "device": "cpu"}))


class PretendedDevice(TorchDispatchMode):
    """Inside, `device="meta"` makes tensors that have numbers, and generators that draw for it."""

    def __enter__(self) -> "PretendedDevice":
        self.generator, self.numbers = torch.Generator, NumbersThere()
        torch.Generator = GeneratorOfTheProcessor  # type: ignore[misc]
        super().__enter__()
        self.numbers.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        torch.Generator = self.generator  # type: ignore[misc]
        self.numbers.__exit__(*error)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    there = [value for value in tensors if isinstance(value, There)]
    here = [value for value in tensors if not isinstance(value, There) and value.dim()]
    indexed_there = func in INDEXING and isinstance(args[0], There)
    if any(value.device == DEVICE for value in here):
        raise AssertionError(f"a tensor without numbers in {func}")
    if there and here and func not in MOVES and not indexed_there:
        raise RuntimeError(f"Expected all tensors to be on the same device, in {func}")
    if func in MOVES and func is not aten._to_copy.default:
        goes_there = isinstance(args[0], There)
    elif kwargs.get("device") is not None:
        goes_there = torch.device(kwargs["device"]) == DEVICE
        kwargs = {**kwargs, "device": torch.device("cpu")}
    else:
        goes_there = bool(there)
    known = {id(value.held): value for value in there}
    out = func(*tree_map_only(There, lambda value: value.held, args), **tree_map_only(There, _inner, kwargs))

    def wrapped(value: Tensor) -> Tensor:
        if id(value) in known:  # changed in place
            return known[id(value)]
        return There(value) if goes_there else value

    return tree_map_only(Tensor, wrapped, out)


def _with_tensors(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_with_tensors(part) for part in index)
    if isinstance(index, list):
        return There(torch.tensor(index))
    return There(index) if isinstance(index, Tensor) and not isinstance(index, There) else index


def _inner(value: There) -> Tensor:
    return value.held


def moved(*pair: Any, there: bool = True) -> tuple[Any, ...]:
    """Copies of a pair; if `there`, the parameters and buffers of its modules are on the pretended device."""
    from pyrovae.pair.execution import modules

    pair = copy.deepcopy(pair)
    for half in modules(*pair) if there else ():
        for part in half.modules():
            part._parameters |= {
                name: nn.Parameter(There(value.detach()), value.requires_grad)
                for name, value in part._parameters.items()
                if value is not None
            }
            part._buffers |= {name: There(value) for name, value in part._buffers.items() if value is not None}
    return pair
