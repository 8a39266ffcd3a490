"""Plain networks that guides and decoders are built from, and the module class that pairs are built on."""

import itertools
from collections.abc import Callable

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from .errors import Refusal


class Module(PyroModule):
    """A `PyroModule` whose root name is its own.

    Pyro finds parameters by name: two modules with one name share them, and where a model and a guide use a name twice,
    `SVI` trains only one of the two, silently. A running number in the name makes both impossible.
    """

    _numbers = itertools.count()

    def __init__(self) -> None:
        with pyro.settings.context(module_local_params=True):  # usable with Pyro's global store and without
            super().__init__(f"{type(self).__name__}_{next(Module._numbers)}")


class MLP(nn.Sequential):
    """Linear layers with `activation` between them: `MLP(64, 200, 200, 8)` maps (..., 64) to (..., 8).

    Weights start Glorot-uniform and biases at 0. With two sizes it is a linear map.
    """

    def __init__(self, *sizes: int, activation: Callable[[], nn.Module] = nn.Tanh):
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            raise Refusal(
                f"layers of {', '.join(map(str, sizes))} units cannot be built: widths are whole numbers above 0."
            )
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            linear = nn.Linear(inputs, outputs)
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
            layers += [linear, activation()]
        super().__init__(*layers[:-1])


def over_batch(net: nn.Module, inputs: Tensor) -> Tensor:
    """`net` applied to (*batch, features) as one flat batch, so that a network which knows only (B, features) can be used
    under any number of sample dimensions. Returns (*batch, *outputs)."""
    if inputs.dim() == 2:
        return net(inputs)
    outputs = net(inputs.reshape(-1, inputs.shape[-1]))
    return outputs.reshape(*inputs.shape[:-1], *outputs.shape[1:])


def inverse_softplus(y: Tensor) -> Tensor:
    """x with log(1 + eˣ) = y, for y > 0."""
    return y + torch.log(-torch.expm1(-y))
