"""Weights of a pair as a safetensors file, which other programs read without running code."""

from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import InvalidInputError, in_one_line
from ..pair.execution import ModelOrGuide
from ..pair.state import load_pair_state, pair_state
from ..utils.files import replacing

__all__ = ["load_safetensors", "save_safetensors"]

HALVES = ("model", "guide")


def save_safetensors(model: ModelOrGuide, guide: ModelOrGuide, path: str | Path, store: tuple[str, ...] = ()) -> None:
    """Write the parameters and buffers of a pair to a safetensors file.

    Names begin with "model.0." or "guide.0.", then a module's number, and go on as in its `state_dict`. Parameters that
    the model and the guide share are in the model's part.

    Args:
        model: The model.
        guide: The guide.
        path: The file.
        store: Names of parameters in Pyro's store, for pairs written as functions.

    Raises:
        InvalidInputError: safetensors is not installed.

    Example:
        >>> import pyrovae
        >>> model, guide = pyrovae.load("ppca")(4, latent=2)
        >>> pyrovae.adapters.save_safetensors(model, guide, "ppca.safetensors")  # doctest: +SKIP
        >>> pyrovae.adapters.load_safetensors(model, guide, "ppca.safetensors")  # doctest: +SKIP
    """
    save_file = _safetensors().save_file
    tensors = {name: value.contiguous().cpu() for name, value in _flat(pair_state(model, guide, store)).items()}
    with replacing(Path(path)) as file:
        save_file(tensors, file, metadata={"written by": "pyrovae"})


def load_safetensors(model: ModelOrGuide, guide: ModelOrGuide, path: str | Path) -> None:
    """Read the parameters and buffers of a pair from a file of `save_safetensors`, bit for bit.

    A pair written as functions must have run once, so that its parameters are in Pyro's store.

    Args:
        model: The model, with the options that it was saved with. It is changed in place.
        guide: The guide, likewise.
        path: The file.

    Raises:
        InvalidInputError: The file cannot be read, or is of another pair, or in another precision.

    Example:
        >>> import pyrovae
        >>> model, guide = pyrovae.load("ppca")(4, latent=2)
        >>> pyrovae.adapters.load_safetensors(model, guide, "ppca.safetensors")  # doctest: +SKIP
    """
    load_file = _safetensors().load_file
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except FileNotFoundError as error:
        raise InvalidInputError(f"There is no file {path}: write it by save_safetensors.") from error
    except Exception as error:  # safetensors raises an exception class of its own
        raise InvalidInputError(f"{path} is no safetensors file that can be read: {in_one_line(error)}.") from error
    own = _flat(pair_state(model, guide, tuple(_names(tensors, "store"))))
    if missing := own.keys() ^ tensors.keys():
        raise InvalidInputError(
            f"{path} is of another pair: {min(missing)} is in only one of them. Build the pair with the options of the file's."
        )
    for name, value in own.items():
        here, there = (f"{tuple(one.shape)} {one.dtype}" for one in (value, tensors[name]))
        if here != there:
            raise InvalidInputError(
                f"{path} is of another pair: {name} is {there.replace('torch.', '')} there and {here.replace('torch.', '')} here. "
                "Build the pair with the options and in the precision of the file's."
            )
    state: dict[str, Any] = {"store": _names(tensors, "store")}
    for half, modules in pair_state(model, guide).items():
        if half in HALVES:
            state[half] = [_names(tensors, f"{half}.{number}") for number in range(len(modules))]
    load_pair_state(state, model, guide)


def _flat(state: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of a pair's state, by one name each."""
    modules = {f"{half}.{number}": tensors for half in HALVES for number, tensors in enumerate(state[half])}
    parts = {**modules, "store": state["store"]}
    return {f"{part}.{name}": value for part, tensors in parts.items() for name, value in tensors.items()}


def _names(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """The tensors of one part, by their names in it."""
    return {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise InvalidInputError("safetensors is not installed: run pip install 'pyrovae[safetensors]'.") from error
    return safetensors.torch
