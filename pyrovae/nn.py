"""Plain networks that guides and decoders are built from, and the module class that pairs are built on."""

import itertools
import math
from collections.abc import Callable
from typing import Protocol

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from .errors import InvalidInputError
from .missing import fill_missing, has_missing

__all__ = [
    "MLP",
    "ConvDecoder",
    "ConvEncoder",
    "DecoderModel",
    "EncoderMLP",
    "Module",
    "Residual",
    "column_moments",
    "column_units",
    "fill_missing",
    "has_missing",
    "inverse_softplus",
    "over_batch",
]


LEAST_VARIANCE = 1e-3  # of columns in [0, 1], on average, that are taken for pixels


class Module(PyroModule):
    """A `PyroModule` with a root name of its own.

    Pyro finds parameters by name, and two modules with one name share them. If a model and a guide use the same name,
    `SVI` trains only one of the two, without a warning. A running number in the name prevents both.
    """

    _numbers = itertools.count()

    def __init__(self) -> None:
        with pyro.settings.context(module_local_params=True):  # usable with Pyro's global store and without
            super().__init__(f"{type(self).__name__}_{next(Module._numbers)}")


class MLP(nn.Sequential):
    """Linear layers with an activation between them. With two sizes it is a linear map.

    Weights start Glorot-uniform and biases at 0.

    Args:
        *sizes: The widths: of the input, of each hidden layer, of the output.
        activation: Makes the module between two layers.

    Example:
        >>> import pyrovae, torch
        >>> pyrovae.MLP(64, 200, 200, 8)(torch.zeros(5, 64)).shape
        torch.Size([5, 8])
    """

    def __init__(self, *sizes: int, activation: Callable[[], nn.Module] = nn.Tanh):
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            raise InvalidInputError(
                f"layers of {', '.join(map(str, sizes))} units cannot be built: widths are whole numbers above 0."
            )
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            linear = nn.Linear(inputs, outputs)
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
            layers += [linear, activation()]
        super().__init__(*layers[:-1])


class EncoderMLP(MLP):
    """An MLP of x that standardises its input: (x − m)/s, with m and s from the training data.

    `fit` calls `start(x)` once, before the first step. `column_units` says what m and s are. A missing entry of x
    enters as 0 after that, so where columns are standardised it is their mean.
    """

    handles_missing = True
    centre: Tensor
    scale: Tensor
    initialised: Tensor

    def __init__(self, dim: int, *sizes: int, activation: Callable[[], nn.Module] = nn.Tanh):
        super().__init__(dim, *sizes, activation=activation)
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("initialised", torch.tensor(False))

    def start(self, x: Tensor) -> None:
        """Take m and s from x (N, dim)."""
        for buffer, value in zip((self.centre, self.scale), column_units(x), strict=True):
            buffer.copy_(value)
        self.initialised.fill_(True)

    def forward(self, x: Tensor) -> Tensor:
        y = (x - self.centre) / self.scale
        return super().forward(fill_missing(y) if has_missing(x) else y)


def over_batch(net: nn.Module, inputs: Tensor) -> Tensor:
    """Apply a network that knows only (B, features) to inputs with any number of leading dimensions.

    Args:
        net: The network.
        inputs: Inputs (*batch, features).

    Returns:
        The outputs (*batch, *outputs).

    Example:
        >>> import pyrovae, torch
        >>> pyrovae.over_batch(torch.nn.Linear(2, 4), torch.zeros(3, 5, 2)).shape
        torch.Size([3, 5, 4])
    """
    if inputs.dim() == 2:
        return net(inputs)
    outputs = net(inputs.reshape(-1, inputs.shape[-1]))
    return outputs.reshape(*inputs.shape[:-1], *outputs.shape[1:])


class _ReadsOutputs(Protocol):
    """What `DecoderModel` needs of a likelihood p(x|η)."""

    def num_outputs(self, dim: int) -> int: ...

    def initial_outputs(self, mean: Tensor, variance: Tensor) -> Tensor: ...

    def __call__(self, eta: Tensor) -> dist.TorchDistribution: ...

    def in_units(self, density: dist.TorchDistribution, centre: Tensor, scale: Tensor) -> dist.TorchDistribution: ...


class DecoderModel(Module):
    """Base of the models with p(x|z) = likelihood(decoder(z) + offset). A subclass writes `forward`.

    The offset begins at the moments of the data. A likelihood on R^D is one of the columns in their own units, (x −
    m)/s, which are `column_units` of the training data.

    Args:
        decoder: Any module from (B, latent) to (B, likelihood.num_outputs(dim)).
        likelihood: p(x|z).
        dim: D, the size of one point x.
    """

    initialised: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, decoder: nn.Module, likelihood: _ReadsOutputs, dim: int):
        super().__init__()
        self.decoder, self.likelihood = decoder, likelihood
        self.offset = nn.Parameter(torch.zeros(likelihood.num_outputs(dim)))
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("initialised", torch.tensor(False))

    def decode(self, z: Tensor) -> dist.TorchDistribution:
        """Return p(x|z), with batch_shape `batch`, for z (*batch, k)."""
        density = self.likelihood(over_batch(self.decoder, z) + self.offset)
        return self.likelihood.in_units(density, self.centre, self.scale)

    def initialise(self, x: Tensor) -> None:
        """Take the units of x, and set the offset so that a decoder which has learned nothing answers with its mean."""
        centre, scale = column_units(x)
        y = ((x - centre) / scale).to(x.dtype)
        if has_missing(y):
            mean, sd = (part.to(x.dtype) for part in _observed_moments(y))
            variance = sd.square()
        else:
            mean, variance = y.mean(dim=0), y.var(dim=0, correction=0)
        with torch.no_grad():
            self.centre.copy_(centre)
            self.scale.copy_(scale)
            self.offset.copy_(self.likelihood.initial_outputs(mean, variance))
            self.initialised.fill_(True)


def column_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (divisor N) of each column of x (N, D), in double precision: (D,) and (D,).

    The standard deviation is the unit of the column. Divided by it, a column no longer depends on how it was
    measured. A column that does not vary gets 1. Missing entries, NaN, are left out.

    Raises:
        InvalidInputError: A column has no observed entry.
    """
    if has_missing(x):
        mean, sd = _observed_moments(x)
    else:
        variance, mean = torch.var_mean(x.double(), dim=0, correction=0)
        sd = variance.sqrt()
    resolution = torch.finfo(torch.float64).eps * mean.abs()  # below it, rounding of equal numbers
    return mean, torch.where(sd > resolution, sd, torch.ones_like(sd))


def _observed_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the observed entries of each column, in double precision."""
    observed = ~x.isnan()
    count = observed.sum(dim=0)
    if not bool((count > 0).all()):
        column = int((count == 0).nonzero()[0])
        raise InvalidInputError(f"Column {column} has no observed entry: leave it out.")
    mean = x.double().nansum(dim=0) / count
    mean = mean + (x.double() - mean).nansum(dim=0) / count  # sums about the mean lose no digits to an offset
    return mean, ((x.double() - mean).square().nansum(dim=0) / count).sqrt()


def column_units(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return centre and scale of each column of x (N, D) for networks, (D,) and (D,): mean and standard deviation.

    They are 0 and 1 where x lies in [0, 1] and varies over it, as pixels, bits and probabilities do. Such columns
    have one unit already, and one that hardly varies is not to be enlarged.
    """
    mean, sd = column_moments(x)
    if not bool((x < 0).any()) and not bool((x > 1).any()) and float(sd.square().mean()) > LEAST_VARIANCE:
        return torch.zeros_like(mean), torch.ones_like(sd)
    return mean, sd


def inverse_softplus(y: Tensor) -> Tensor:
    """Return x with log(1 + eˣ) = y, for y > 0."""
    return y + torch.log(-torch.expm1(-y))


class ConvEncoder(nn.Module):
    """Convolutions that halve an image, then a linear layer: rows of `height × width` pixels to `outputs` numbers.

    Args:
        shape: (height, width) of an image, or (height, width, 3) where a pixel has three colours beside one another.
        outputs: How many numbers to return.
        channels: Channels of each convolution.

    Example:
        >>> import pyrovae
        >>> encoder = pyrovae.nn.ConvEncoder((28, 28), 100)
        >>> guide = pyrovae.guides.MeanField(784, 50, encoder=encoder)
    """

    def __init__(self, shape: tuple[int, ...], outputs: int, channels: tuple[int, ...] = (16, 32)):
        super().__init__()
        sizes, self.shape = _halved(shape, len(channels)), (*shape[:2], _colours(shape))
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((self.shape[2], *channels)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ELU()]
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels[-1] * sizes[-1][0] * sizes[-1][1], outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.reshape(-1, *self.shape).permute(0, 3, 1, 2))


class ConvDecoder(nn.Module):
    """A linear layer, then transposed convolutions that double an image: (B, latent) to `numbers` for each pixel.

    Args:
        shape: (height, width) of an image, or (height, width, 3) where a pixel has three colours beside one another.
        latent: k, the size of z.
        numbers: Numbers for each pixel, and for each of its colours.
        channels: Channels of each convolution.
        beside: How the numbers are ordered. False: the first numbers of all pixels, then the second, as `PixelNormal`
            takes them. True: all numbers of a pixel together, as `Categorical` and `LogisticMixture` take them.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent: int,
        numbers: int = 1,
        channels: tuple[int, ...] = (32, 16),
        *,
        beside: bool = False,
    ):
        super().__init__()
        self.numbers, self.beside = numbers, beside
        sizes = _halved(shape, len(channels))[::-1]
        self.seed, self.first = (channels[0], *sizes[0]), nn.Linear(latent, channels[0] * sizes[0][0] * sizes[0][1])
        layers: list[nn.Module] = []
        for place, (before, after) in enumerate(itertools.pairwise((*channels, numbers * _colours(shape)))):
            # 2 n − 1 pixels, and one more where the size was even
            extra = tuple(1 - size % 2 for size in sizes[place + 1])
            up = nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=(extra[0], extra[1]))
            layers += [nn.ELU(), up]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        image = self.layers(self.first(z).unflatten(-1, self.seed)).unflatten(1, (self.numbers, -1))
        order = (0, 3, 4, 2, 1) if self.beside else (0, 1, 3, 4, 2)  # of (B, numbers, colours, height, width)
        return image.permute(*order).flatten(1)

    @classmethod
    def of(cls, shape: tuple[int, ...], latent: int, likelihood: "_ReadsOutputs", dim: int) -> "ConvDecoder":
        """Return the decoder of images of that shape for a likelihood. Raises `InvalidInputError` where it does not fit."""
        if math.prod(shape) != dim:
            raise InvalidInputError(
                f"image_shape={','.join(map(str, shape))} has {math.prod(shape)} numbers, and x has {dim}: give height and width, and 3 "
                "for colours."
            )
        outputs = likelihood.num_outputs(dim)
        if outputs % dim:
            raise InvalidInputError(
                f"{type(likelihood).__name__} has numbers that belong to no pixel, and convolutions give none: choose PixelNormal, or "
                "leave image_shape out."
            )
        return cls(shape, latent, outputs // dim, beside=getattr(likelihood, "beside", False))


class Residual(nn.Module):
    """Residual network: `blocks` of h + W₂ a(W₁ a(h)) between two linear maps.

    Args:
        inputs: The size of the input.
        outputs: The size of the output.
        width: The size of h.
        blocks: The number of blocks.

    References:
        He, Zhang, Ren & Sun (2016). Identity mappings in deep residual networks.
    """

    def __init__(self, inputs: int, outputs: int, width: int = 200, blocks: int = 2):
        super().__init__()
        self.first, self.last = nn.Linear(inputs, width), nn.Linear(width, outputs)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.ELU(), nn.Linear(width, width), nn.ELU(), nn.Linear(width, width)) for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = h + block(h)
        return self.last(h)


def _colours(shape: tuple[int, ...]) -> int:
    return shape[2] if len(shape) == 3 else 1


def _halved(shape: tuple[int, ...], times: int) -> list[tuple[int, int]]:
    """The sizes of an image halved so often, rounded up, its own first."""
    if len(shape) not in (2, 3) or min(shape) < 1 or times < 1:
        raise InvalidInputError(
            f"An image of shape {shape} cannot be halved {times} times: give (height, width) and some channels."
        )
    sizes = [(int(shape[0]), int(shape[1]))]
    for _ in range(times):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes
