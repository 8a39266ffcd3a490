"""Transforms of pixels, whole numbers of some levels: with noise added, made binary, or as levels."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions.transforms import AffineTransform, ComposeTransform, SigmoidTransform

from ..missing import fill_missing
from .transform import Transform


class _OfLevels(Transform):
    """Of pixels of so many levels."""

    pixels = True
    levels: int

    def settings(self) -> dict[str, Any]:
        return {"levels": self.levels}

    def check(self, values: Tensor, first: int = 0) -> None:
        if not values.is_floating_point():
            values = values.int()  # a byte cannot be compared with 256
        bad = (values < 0) | (values >= self.levels) | (values != values.round())
        self._refuse(values, bad, f"whole numbers from 0 to {self.levels - 1}", first)


class Dequantise(_OfLevels):
    """x = (pixel + u) / levels, u ~ U[0, 1): log|dx/dpixel| = −D log levels (Theis, van den Oord & Bethge 2016, §3.1).

    The mean of log p(x) + log|dx/dpixel| over u is a lower bound on the log-probability of the pixels.
    """

    space = "[0,1]^D"

    def __init__(self, levels: int = 256):
        self.levels = levels

    def __call__(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.rand(pixels.shape, generator=generator, dtype=pixels.dtype, device=pixels.device)
        # 255 + 0.99999999 rounds to 256 in single precision
        return ((pixels + noise) / self.levels).clamp(max=1 - torch.finfo(pixels.dtype).eps)

    def to_source(self, x: Tensor) -> Tensor:
        return (x * self.levels).floor().clamp(0, self.levels - 1)

    def log_jacobian(self, x: Tensor) -> Tensor:
        return (~x.isnan()).flatten(1).sum(-1).to(x.dtype) * -math.log(self.levels)

    def __str__(self) -> str:
        return f"(pixel + u) / {self.levels}"


class Logit(Dequantise):
    """x = logit(α + (1 − 2α) y), y = (pixel + u) / levels: onto all of R^D (Dinh, Sohl-Dickstein & Bengio 2017, §4.1)."""

    space = "R^D"

    def __init__(self, levels: int = 256, alpha: float = 0.05):
        super().__init__(levels)
        self.alpha = alpha
        self._map = ComposeTransform([AffineTransform(alpha, 1 - 2 * alpha), SigmoidTransform().inv])

    def __call__(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self._map(super().__call__(pixels, generator))

    def to_source(self, x: Tensor) -> Tensor:
        return super().to_source(self._map.inv(x))

    def settings(self) -> dict[str, Any]:
        return {"levels": self.levels, "alpha": self.alpha}

    def grey(self, x: Tensor) -> Tensor:
        return super().grey(self._map.inv(x))

    def log_jacobian(self, x: Tensor) -> Tensor:
        stretch = self._map.log_abs_det_jacobian(self._map.inv(x), x)
        return super().log_jacobian(x) + stretch.flatten(1).nansum(-1)

    def __str__(self) -> str:
        return f"logit({self.alpha:g} + {1 - 2 * self.alpha:g} (pixel + u) / {self.levels})"


class Binarise(_OfLevels):
    """x ~ Bernoulli(pixel / (levels − 1)): drawn again at every use of a training image, once for the test images.

    The images are changed, so a probability of x says nothing about the pixels (Burda, Grosse & Salakhutdinov 2016,
    §5).
    """

    discrete = True
    fresh = True
    space = "{0,1}^D"

    def __init__(self, levels: int = 256):
        self.levels = levels

    def __call__(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        drawn = torch.bernoulli(fill_missing(pixels / (self.levels - 1)), generator=generator)
        return drawn.masked_fill_(pixels.isnan(), torch.nan)

    def log_jacobian(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x))

    def __str__(self) -> str:
        return f"Bernoulli(pixel / {self.levels - 1})"


class Threshold(Binarise):
    """x = 1 where pixel / (levels − 1) ≥ at, else 0: no randomness, another data set than `Binarise`'s."""

    fresh = False

    def __init__(self, levels: int = 256, at: float = 0.5):
        super().__init__(levels)
        self.at = at

    def settings(self) -> dict[str, Any]:
        return {"levels": self.levels, "at": self.at}

    def __call__(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return (pixels / (self.levels - 1) >= self.at).to(pixels.dtype).masked_fill_(pixels.isnan(), torch.nan)

    def __str__(self) -> str:
        return f"pixel / {self.levels - 1} ≥ {self.at:g}"


class Levels(_OfLevels):
    """x = pixel / (levels − 1), the pixel's level and nothing else: for likelihoods that give each level a probability."""

    discrete = True

    def __init__(self, levels: int = 256):
        self.levels = levels
        self.space = f"{{0, 1/{levels - 1}, …, 1}}^D"
        self.likelihood = f"LogisticMixture({levels})"

    def __call__(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return pixels / (self.levels - 1)

    def to_source(self, x: Tensor) -> Tensor:
        return (x * (self.levels - 1)).round()

    def log_jacobian(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x))

    def __str__(self) -> str:
        return f"pixel / {self.levels - 1}, as levels"
