"""How a model or a guide is run: with parameters of its own, without side effects, and with errors in one sentence."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..errors import InvalidInputError, RunError, in_one_line
from ..utils.precision import tf32_products

ModelOrGuide = Callable[[Tensor], Any]  # a model or a guide


@contextlib.contextmanager
def local_parameters(*programs: ModelOrGuide) -> Iterator[None]:
    """Parameters belong to their modules while a pair runs, not to Pyro's global store.

    In the store two modules with the same names would share them, and training one would move the other. Turned on for
    the length of our own calls only: Pyro's stock `SVI` needs the store.
    """
    for module in modules(*programs):
        # A PyroModule made while the setting was off lacks the slot that it reads while the setting is on.
        for part in module.modules():
            if isinstance(part, PyroModule) and not hasattr(part._pyro_context, "param_state"):
                part._pyro_context.param_state = {"params": {}, "constraints": {}}
    with pyro.settings.context(module_local_params=True):
        yield


@contextlib.contextmanager
def isolated_parameters(*programs: ModelOrGuide) -> Iterator[None]:
    """A pair at work: its parameters its own, and Pyro's checks off, because ours name the site and the point."""
    with local_parameters(*programs), pyro.validation_enabled(False):
        yield


@contextlib.contextmanager
def evaluation_mode(*programs: ModelOrGuide) -> Iterator[None]:
    """Dropout off, batch statistics frozen, convolutions in full precision; afterwards all is as it was."""
    parts = [part for module in modules(*programs) for part in module.modules()]
    before = [part.training for part in parts]
    for part in parts:
        part.training = False
    try:
        with tf32_products(wanted=False):
            yield
    finally:
        for part, training in zip(parts, before, strict=True):
            part.training = training


def modules(*programs: ModelOrGuide) -> list[nn.Module]:
    """Return the modules that programs are, are methods of, or use, each once, in a fixed order.

    They may be in closures, global names, attributes, partial arguments, and containers of these.
    """
    networks: dict[int, nn.Module] = {}
    seen: set[int] = set()

    def look(value: Any, depth: int) -> None:
        if id(value) in seen or depth > 5:
            return
        seen.add(id(value))
        if isinstance(value, nn.Module):
            networks.setdefault(id(value), value)
        else:
            for part in _parts(value):
                look(part, depth + 1)

    for program in programs:
        look(program, 0)
    return list(networks.values())


def _parts(value: Any) -> list[Any]:
    """What a function, a bound method, a partial, a callable object or a container holds; nothing of other values."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if inspect.ismethod(value):
        return [value.__self__, value.__func__]
    if inspect.isfunction(value):
        names = inspect.getclosurevars(value)
        # of a notebook's global names: its networks, and its own functions, which may use others
        near = [v for v in names.globals.values() if isinstance(v, nn.Module) or _is_beside(v, value)]
        return [*names.nonlocals.values(), *near]
    if callable(value) and not inspect.isclass(value) and not inspect.isbuiltin(value):
        return list(getattr(value, "__dict__", {}).values())
    return []


def _is_beside(value: Any, function: Any) -> bool:
    return inspect.isfunction(value) and value.__module__ == function.__module__


def trace(kind: str, program: ModelOrGuide, x: Tensor) -> poutine.Trace:
    """A run of one half of the pair; an error in it says which half could not be run, and on what, in one sentence."""
    try:
        return poutine.trace(program).get_trace(x)
    except (torch.OutOfMemoryError, RunError):
        raise
    except Exception as error:
        reason = in_one_line(error)
        if isinstance(error, InvalidInputError):
            raise InvalidInputError(reason) from error
        raise InvalidInputError(
            f"The {kind} cannot be run on x of shape {tuple(x.shape)}, {x.dtype}: {type(error).__name__}: {reason}"
            f"{_hint(reason)}"
        ) from error


def _hint(reason: str) -> str:
    if "dtype" in reason or "scalar type" in reason:
        return " (x and the parameters must be of one type: x.float(), or model.double().)"
    if "shape" in reason.lower() or "size" in reason:
        return (
            " (x must have the size that the pair was built for. Networks must keep leading dimensions, as pyrovae.over_batch "
            "does. Declare the dimensions of one point with .to_event(1).)"
        )
    return ""
