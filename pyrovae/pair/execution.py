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
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from ..errors import Diverged, Refusal

Program = Callable[[Tensor], Any]  # a model or a guide


@contextlib.contextmanager
def local_parameters(*programs: Program) -> Iterator[None]:
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
def scoring(*programs: Program) -> Iterator[None]:
    """A pair at work: its parameters its own, and Pyro's checks off, because ours name the site and the point."""
    with local_parameters(*programs), pyro.validation_enabled(False):
        yield


@contextlib.contextmanager
def evaluation_mode(*programs: Program) -> Iterator[None]:
    """Dropout off, batch statistics frozen; each module goes back to the mode it was in."""
    parts = [part for module in modules(*programs) for part in module.modules()]
    before = [part.training for part in parts]
    for part in parts:
        part.training = False
    try:
        yield
    finally:
        for part, training in zip(parts, before, strict=True):
            part.training = training


@contextlib.contextmanager
def fork_rng(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Leave torch's random state as it was found; inside, start from `seed` if one is given."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def modules(*programs: Program) -> list[nn.Module]:
    """The modules that programs are, are methods of, or use: in closures, global names, attributes, partial arguments
    and containers of these. Each once, in a fixed order."""
    found: dict[int, nn.Module] = {}
    seen: set[int] = set()

    def look(value: Any, depth: int) -> None:
        if id(value) in seen or depth > 5:
            return
        seen.add(id(value))
        if isinstance(value, nn.Module):
            found.setdefault(id(value), value)
        else:
            for part in _parts(value):
                look(part, depth + 1)

    for program in programs:
        look(program, 0)
    return list(found.values())


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


def trace(kind: str, program: Program, x: Tensor) -> poutine.Trace:
    """A run of one half of the pair; an error in it says which half could not be run, and on what, in one sentence."""
    try:
        return poutine.trace(program).get_trace(x)
    except (torch.OutOfMemoryError, Diverged):
        raise
    except Exception as error:
        reason = in_one_line(error)
        if isinstance(error, Refusal):
            raise Refusal(reason) from error
        raise Refusal(
            f"The {kind} cannot be run on x of shape {tuple(x.shape)}, {x.dtype}: {type(error).__name__}: {reason}"
            f"{_hint(reason)}"
        ) from error


def in_one_line(error: Exception) -> str:
    """What an error says, without the table of every site that Pyro adds."""
    return " ".join(str(error).split("Trace Shapes:")[0].split())


def _hint(reason: str) -> str:
    if "dtype" in reason or "scalar type" in reason:
        return " (x and the parameters must be of one type: x.float(), or model.double().)"
    if "shape" in reason.lower() or "size" in reason:
        return (
            " (x must have the size that the pair was built for; networks must keep leading dimensions, as pyrovae.over_batch "
            "does, and the dimensions of one point be declared with .to_event(1).)"
        )
    return ""


def sites(run: poutine.Trace) -> list[dict[str, Any]]:
    """The sites that have a density: a plate is a site too, and so is `pyro.deterministic`, and neither has one."""
    return [
        site
        for site in run.nodes.values()
        if site["type"] == "sample" and not site_is_subsample(site) and not site["infer"].get("_deterministic")
    ]


def parameters(x: Tensor, guide: Program, model: Program | None = None) -> list[Tensor]:
    """Every unconstrained parameter that a run of the guide, and of the model on its draws, reads: each once, by identity.

    By name two parameters of one name count as one, and Pyro's `SVI` then leaves the other untrained.
    """
    pair = [guide] if model is None else [guide, model]
    with scoring(*pair), evaluation_mode(*pair), torch.no_grad(), fork_rng(x.device), parameters_read() as found:
        q = trace("guide", guide, x)
        if model is not None:
            trace("model", poutine.replay(model, trace=q), x)
    return found


@contextlib.contextmanager
def parameters_read() -> Iterator[list[Tensor]]:
    """The unconstrained parameters that are read inside of it, as `parameters` has them, complete when it is left."""
    found: list[Tensor] = []
    with _Collect() as collect:
        yield found
    found += [value for value in collect.found.values() if value.requires_grad]


def refuse_hidden(leaves: list[Tensor], *programs: Program) -> None:
    """A network that Pyro does not see is used and never trained: `leaves` are the parameters that it does see."""
    seen = {id(leaf) for leaf in leaves}
    for module in modules(*programs):
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                raise Refusal(
                    f"Parameter {name} of a {type(module).__name__} is never seen by Pyro, so SVI would not train it: derive the "
                    "module from pyrovae.Module and read its parameters in forward, or register it in the model with "
                    "pyro.module; if it is to stay as it is, .requires_grad_(False)."
                )


class _Collect(poutine.messenger.Messenger):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, Tensor] = {}

    def _pyro_post_param(self, msg: Any) -> None:
        leaf = unconstrained(msg["value"])
        given = msg["args"][1] if len(msg["args"]) > 1 else None
        if isinstance(given, nn.Parameter) and given.data_ptr() != leaf.data_ptr():
            raise Refusal(
                f"Pyro's store holds another parameter under the name '{msg['name']}', and would train that one: call "
                "pyro.clear_param_store() before the pair is built, or give its pyro.module a name of its own."
            )
        self.found[id(leaf)] = leaf


def unconstrained(value: Any) -> Tensor:
    """The leaf tensor that an optimiser moves for a parameter's value."""
    return value.unconstrained() if hasattr(value, "unconstrained") else value


def sample(model: Program, num: int, like: Tensor, *, mean: bool = False) -> Tensor:
    """`num` draws of x from the model alone, (num, *like.shape[1:]); with `mean`, E[x|z] of as many draws of z.

    `like` (N, ...) gives x its shape, type and device. Draws come from torch's global generator.
    Raises `Refusal` for a model that observes nothing of x's shape.
    """
    drawn = draw_observed(model, num, like)
    for site in drawn:
        if site["value"].shape == (num, *like.shape[1:]):
            return site["fn"].mean if mean else site["value"]
    shapes = ", ".join(f"{tuple(site['value'].shape[1:])} at '{site['name']}'" for site in drawn)
    raise Refusal(
        f"The model draws nothing of x's shape {tuple(like.shape[1:])}, but {shapes or 'nothing at all'}: let it observe x itself, "
        "with obs=x; where a part of x is given, draw the rest by the model's own method (model.draw(c), if it has one)."
    )


def draw_observed(model: Program, num: int, like: Tensor) -> list[dict[str, Any]]:
    """The sites that the model observes, each with a draw of its own as its value, for `num` points."""
    blank = like[:1].expand(num, *like.shape[1:])
    with scoring(model), evaluation_mode(model), torch.no_grad():
        run = trace("model", poutine.uncondition(model), blank)
    return [site for site in sites(run) if site["infer"].get("was_observed")]
