"""The parameters that a pair reads while it runs."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide
from torch import Tensor, nn

from ..errors import InvalidInputError
from ..utils.random import fork_rng
from .execution import ModelOrGuide, evaluation_mode, isolated_parameters, modules, trace
from .sites import density_sites


def is_per_point(guide: ModelOrGuide, x: Tensor) -> bool:
    """Whether the guide has parameters for each point of the full batch, which then cannot be split.

    Such a parameter has a row for each point, and two points read no more than two of its rows. The weights of a network may have as
    many rows as there are points, and every point reads all of them.
    """
    if isinstance(guide, AutoGuide):
        return True
    try:
        parameters = unconstrained_parameters(x[:2], guide)
    except InvalidInputError:  # two points are not what it was made for
        parameters = unconstrained_parameters(x[:], guide)
        return any(p.dim() > 0 and len(p) == len(x) > 1 for p in parameters)
    candidates = [p for p in parameters if p.dim() > 0 and len(p) == len(x) > 1]
    return bool(candidates) and any(1 <= rows <= 2 for rows in _rows_read(guide, x[:2], candidates))


def _rows_read(guide: ModelOrGuide, x: Tensor, parameters: list[Tensor]) -> list[int]:
    """How many rows of each parameter the guide's draws and their density at x depend on."""
    with (
        isolated_parameters(guide),
        evaluation_mode(guide),
        fork_rng(x.device),
        torch.inference_mode(False),  # gradients, whatever the caller has set
        torch.enable_grad(),
    ):
        terms = []
        for site in density_sites(trace("guide", guide, x.clone())):
            terms += [site["fn"].log_prob(site["value"]), site["value"]]
        total = sum(term.sum() for term in terms if term.requires_grad)
        if not isinstance(total, Tensor):
            return [0] * len(parameters)
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return [0 if gradient is None else int(gradient.reshape(len(gradient), -1).any(1).sum()) for gradient in gradients]


def unconstrained_parameters(x: Tensor, guide: ModelOrGuide, model: ModelOrGuide | None = None) -> list[Tensor]:
    """Every unconstrained parameter that a run of the guide, and of the model on its draws, reads: each once, by identity.

    By name two parameters of one name count as one, and Pyro's `SVI` then leaves the other untrained.
    """
    pair = [guide] if model is None else [guide, model]
    with (
        isolated_parameters(*pair),
        evaluation_mode(*pair),
        torch.no_grad(),
        fork_rng(x.device),
        collect_parameters(*pair) as parameters,
    ):
        q = trace("guide", guide, x)
        if model is not None:
            trace("model", poutine.replay(model, trace=q), x)
    return parameters


@contextlib.contextmanager
def collect_parameters(*programs: ModelOrGuide) -> Iterator[list[Tensor]]:
    """The unconstrained parameters that programs read inside of it, as `unconstrained_parameters` has them, complete when it is left."""
    parameters: list[Tensor] = []
    with _Collect() as collect:
        yield parameters
    collect.check_store(*programs)
    parameters += [value for value in collect.leaves.values() if value.requires_grad]


def check_registered(leaves: list[Tensor], *programs: ModelOrGuide) -> None:
    """A network that Pyro does not see is used and never trained: `leaves` are the parameters that it does see."""
    seen = {id(leaf) for leaf in leaves}
    for module in modules(*programs):
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                raise InvalidInputError(
                    f"Parameter {name} of a {type(module).__name__} is never seen by Pyro, so SVI would not train it. Derive the "
                    "module from pyrovae.Module and read its parameters in forward, or register it in the model with "
                    "pyro.module. If it is to stay as it is, call .requires_grad_(False)."
                )


class _Collect(poutine.messenger.Messenger):
    def __init__(self) -> None:
        super().__init__()
        self.leaves: dict[int, Tensor] = {}
        self.replaced: dict[str, Tensor] = {}  # what the store holds under the name of another parameter

    def _pyro_post_param(self, msg: Any) -> None:
        leaf = unconstrained(msg["value"])
        given = msg["args"][1] if len(msg["args"]) > 1 else None
        if isinstance(given, nn.Parameter) and given.data_ptr() != leaf.data_ptr():
            self.replaced[msg["name"]] = leaf
        self.leaves[id(leaf)] = leaf

    def check_store(self, *programs: ModelOrGuide) -> None:
        """The store may hold other parameters than the modules have, unless pyro.module has put them into the modules."""
        owned = {parameter.data_ptr() for module in modules(*programs) for parameter in module.parameters()}
        for name, leaf in self.replaced.items():
            if leaf.data_ptr() not in owned:
                raise InvalidInputError(
                    f"Pyro's store holds another parameter under the name '{name}', and would train that one. If you have loaded the "
                    "store, write pyro.module(name, module, update_module_params=True). Else call pyro.clear_param_store() before "
                    "the pair is built, or give its pyro.module a name of its own."
                )


def unconstrained(value: Any) -> Tensor:
    """The leaf tensor that an optimiser moves for a parameter's value."""
    return value.unconstrained() if hasattr(value, "unconstrained") else value
