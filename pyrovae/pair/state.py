"""What a pair has learned, as plain tensors: parameters and buffers of its modules, and what it keeps in Pyro's store."""

from typing import Any

import pyro
import torch
from torch import nn

from .execution import ModelOrGuide, modules
from .structure import Structure


def pair_state(model: ModelOrGuide, guide: ModelOrGuide, store: tuple[str, ...] = ()) -> dict[str, Any]:
    """The state of a pair whose parameters of the names `store` live in Pyro's store: those of pairs written as functions."""
    state: dict[str, Any] = {
        key: [{name: value.detach().clone() for name, value in module.state_dict().items()} for module in networks]
        for key, networks in _halves(model, guide).items()
    }
    values = dict(pyro.get_param_store().named_parameters())
    return {**state, "store": {name: values[name].detach().clone() for name in store}}


def load_pair_state(state: dict[str, Any], model: ModelOrGuide, guide: ModelOrGuide) -> None:
    """Put a state back into a pair that has run once, so that what `pyro.param` makes is there.

    Raises `RuntimeError`, `KeyError`, `TypeError` or `ValueError` where the state is another pair's.
    """
    for key, networks in _halves(model, guide).items():
        for module, saved in zip(networks, state[key], strict=True):
            module.load_state_dict(saved)
    values = dict(pyro.get_param_store().named_parameters())
    for name, saved in state["store"].items():
        if values[name].shape != saved.shape:
            raise RuntimeError(
                f"size mismatch for {name}: {tuple(saved.shape)} in the checkpoint, {tuple(values[name].shape)} in the model"
            )
        with torch.no_grad():
            values[name].copy_(saved)


def store_names(structure: Structure) -> tuple[str, ...]:
    """The parameters that a pair keeps in Pyro's store."""
    store = pyro.get_param_store()
    sites = [*structure.model_trace.nodes.items(), *structure.guide_trace.nodes.items()]
    return tuple({name: None for name, site in sites if site["type"] == "param" and name in store})


def _halves(model: ModelOrGuide, guide: ModelOrGuide) -> dict[str, list[nn.Module]]:
    """The modules of each half; those that the guide shares with the model are the model's."""
    own = modules(model)
    return {"model": own, "guide": [module for module in modules(guide) if module not in own]}
