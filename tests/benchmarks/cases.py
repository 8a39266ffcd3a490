"""What is timed: three pairs at two batch sizes, from one start, on data of which only the shape matters."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import pyrovae

LR = 1e-3
Start = dict[str, Tensor]  # parameters by the names that the formulas below and every peer use


@dataclass
class Case:
    """A pair, data and a batch size. `pair()` makes the pair anew, always at the same start."""

    kind: str  # the peers' name for the maths
    data: Tensor
    batch: int
    pair: Callable[[], tuple[nn.Module, object]]
    constants: dict[str, Any]

    def named(self, model: nn.Module, guide: object) -> Start:
        """The pair's own parameters, by the peers' names."""
        return _named(self.kind, model, guide)

    @property
    def start(self) -> Start:
        return {name: value.detach().clone() for name, value in self.named(*self.pair()).items()}


def vae(batch: int, steps: int, dim: int = 784, latent: int = 50, hidden: tuple[int, ...] = (200, 200)) -> Case:
    """Bernoulli VAE on binary images: as many as `steps` batches."""
    data = (torch.rand(batch * steps, dim) < torch.rand(dim) ** 2).to(torch.get_default_dtype())

    def build() -> tuple[nn.Module, object]:
        return pyrovae.load("vae")(dim, latent=latent, hidden=hidden, likelihood=pyrovae.likelihoods.Bernoulli())

    return Case("vae", data, batch, _from_one_start(build, data), {})


def ppca(batch: int, steps: int, latent: int = 8) -> Case:
    """PPCA of the digits under its exact guide."""
    data = _digits(batch * steps)
    pair = _from_one_start(lambda: pyrovae.load("ppca")(data.shape[1], latent=latent), data)
    return Case("ppca", data, batch, pair, {})


def mixture(batch: int, steps: int, components: int = 10) -> Case:
    """Mixture of Gaussians with full covariances of the digits under its exact guide."""
    data = _digits(batch * steps)
    pair = _from_one_start(lambda: pyrovae.load("gmm")(data.shape[1], components=components), data)
    model, _ = pair()
    full = model.components
    fixed = {"centre": full.centre, "axes": full.axes, "variances": full.variances, "floor": full.floor}
    return Case("mixture", data, batch, pair, fixed)


def _from_one_start(build: Callable[[], tuple[nn.Module, object]], data: Tensor) -> Callable[[], tuple]:
    """Pairs that are alike: built and started from data once, and copied from then on."""
    model, guide = build()
    model.initialise(data)
    return _copies(model, guide)


def _copies(model: nn.Module, guide: object) -> Callable[[], tuple]:
    return lambda: copy.deepcopy((model, guide))


def _digits(points: int) -> Tensor:
    """Digits drawn with replacement, dequantised anew: as many as are asked for, none twice. Their columns are standardised, since
    what is written by hand knows no units."""
    pixels = torch.as_tensor(load_digits().data, dtype=torch.get_default_dtype())
    pixels = pixels[torch.randint(len(pixels), (points,))]
    x = (pixels + torch.rand_like(pixels)).double()
    return ((x - x.mean(0)) / x.std(0, correction=0)).to(pixels)


def _named(kind: str, model: nn.Module, guide: object) -> Start:
    if kind == "ppca":
        return {"W": model.W, "mu": model.mu, "log_sigma": model.log_sigma}
    if kind == "mixture":
        return {"shift": model.components.shift, "packed": model.components.packed, "logits": model.logits}
    layers = {"offset": model.offset}
    for name, network in (("enc", guide.encoder), ("dec", model.decoder)):
        linear = [layer for layer in network if isinstance(layer, nn.Linear)]
        for place, layer in enumerate(linear):
            layers |= {f"{name}{place}.weight": layer.weight, f"{name}{place}.bias": layer.bias}
    return layers


def without_noise(case: Case) -> Case:
    """The VAE with a guide as narrow as it can be, σ = 1e-6: what is left of its loss is the same for every draw."""
    model, guide = case.pair()
    last = [layer for layer in guide.encoder if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        last.weight[guide.latent :] = 0.0
        last.bias[guide.latent :] = -60.0
    return Case(case.kind, case.data, case.batch, _copies(model, guide), case.constants)


def batches(case: Case) -> Iterator[Tensor]:
    """Batches drawn without replacement on the data's device, without end; all of the data as they are."""
    while True:
        if case.batch == len(case.data):
            yield case.data
        else:
            for index in torch.randperm(len(case.data), device=case.data.device).split(case.batch):
                yield case.data.index_select(0, index)  # several times as fast as data[index]


SOFTPLUS_ONE = math.log(math.expm1(1.0))  # softplus of it is 1

CASES: dict[str, Callable[[], Case]] = {
    "VAE 784-200-200-50, B=100": lambda: vae(100, 40),
    "VAE 784-200-200-50, B=1024": lambda: vae(1024, 6),
    "PPCA D=64 k=8, B=256": lambda: ppca(256, 100),
    "PPCA D=64 k=8, B=1797": lambda: ppca(1797, 60),
    "mixture D=64 K=10 full, B=256": lambda: mixture(256, 30),
    "mixture D=64 K=10 full, B=1797": lambda: mixture(1797, 12),
}
TARGETS = {
    "VAE 784-200-200-50, B=100": 0.80,
    "VAE 784-200-200-50, B=1024": 0.90,
    "PPCA D=64 k=8, B=256": 0.40,
    "PPCA D=64 k=8, B=1797": 0.55,
    "mixture D=64 K=10 full, B=256": 0.50,
    "mixture D=64 K=10 full, B=1797": 0.40,
}
