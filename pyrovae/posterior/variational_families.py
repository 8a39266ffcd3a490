"""Families of q in R^d with parameters of its own for every point: what refinement moves.

A family is written in units of a start, v = (u − loc) / spread, in which it begins at N(0, I). So a step has the same
relative size whatever the units of a latent. Parameters are tensors (N, ...).
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from pyro.distributions import transforms
from pyro.nn import DenseNN
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ..errors import InvalidInputError

Parameters = dict[str, Tensor]


class VariationalFamily(Protocol):
    """What refinement asks of a family."""

    rate: float  # Adam's, in units of the start

    def begin(self, like: Tensor) -> Parameters:
        """Parameters at which q is N(0, I), for as many points as `like` (N, d) has."""
        ...

    def draw(self, parameters: Parameters, noise: Tensor) -> tuple[Tensor, Tensor]:
        """v and log q(v) from noise (S, N, d) ~ N(0, I): (S, N, d) and (S, N); gradients reach the parameters."""
        ...

    def log_prob(self, parameters: Parameters, v: Tensor) -> Tensor:
        """log q(v): (S, N, d) → (S, N)."""
        ...


class DiagonalGaussian:
    """q(v) = N(μ, diag σ²)."""

    rate = 0.02

    def begin(self, like: Tensor) -> Parameters:
        return {"loc": torch.zeros_like(like), "log_scale": torch.zeros_like(like)}

    def draw(self, parameters: Parameters, noise: Tensor) -> tuple[Tensor, Tensor]:
        v = parameters["loc"] + parameters["log_scale"].exp() * noise
        return v, self.log_prob(_detached(parameters), v)

    def log_prob(self, parameters: Parameters, v: Tensor) -> Tensor:
        back = (v - parameters["loc"]) * (-parameters["log_scale"]).exp()
        return _log_standard_normal(back) - parameters["log_scale"].sum(-1)

    def __str__(self) -> str:
        return "diagonal Gaussian"


class FullGaussian:
    """q(v) = N(μ, L Lᵀ), L lower triangular with a positive diagonal."""

    rate = 0.02

    def begin(self, like: Tensor) -> Parameters:
        points, d = like.shape
        below = like.new_zeros(points, d * (d - 1) // 2)
        return {"loc": torch.zeros_like(like), "log_diagonal": torch.zeros_like(like), "below": below}

    def draw(self, parameters: Parameters, noise: Tensor) -> tuple[Tensor, Tensor]:
        v = parameters["loc"] + torch.einsum("nij,snj->sni", self._root(parameters), noise)
        return v, self.log_prob(_detached(parameters), v)

    def log_prob(self, parameters: Parameters, v: Tensor) -> Tensor:
        centred = (v - parameters["loc"]).permute(1, 2, 0)  # (N, d, S)
        back = torch.linalg.solve_triangular(self._root(parameters), centred, upper=False).permute(2, 0, 1)
        return _log_standard_normal(back) - parameters["log_diagonal"].sum(-1)

    @staticmethod
    def _root(parameters: Parameters) -> Tensor:
        root = torch.diag_embed(parameters["log_diagonal"].exp())
        row, column = torch.tril_indices(root.shape[-1], root.shape[-1], offset=-1, device=root.device)
        root[:, row, column] = parameters["below"]
        return root

    def __str__(self) -> str:
        return "full-covariance Gaussian"


class FlowFamily:
    """q(v) by affine coupling layers from N(0, I), with small networks for each point.

    Args:
        layers: How many couplings.
        hidden: Hidden units in each network.

    References:
        Dinh, Sohl-Dickstein & Bengio (2017). Density estimation using Real NVP.
    """

    rate = 0.005  # networks bear less

    def __init__(self, layers: int = 4, hidden: int = 32):
        if layers < 1 or hidden < 1:
            raise InvalidInputError(
                f"A flow of {layers} layers of {hidden} units cannot be built: give at least 1 of each."
            )
        self.layers, self.hidden = layers, hidden
        self._nets: dict[int, _Layers] = {}  # one for each d: points differ in parameters alone

    def begin(self, like: Tensor) -> Parameters:
        points, d = like.shape
        if d < 2:
            raise InvalidInputError(
                "An affine flow of one latent number is a Gaussian: refine with DiagonalGaussian()."
            )
        net = self._nets[d] = _Layers(d, self.layers, max(self.hidden, d)).to(like)
        return {name: p.detach().expand(points, *p.shape).clone() for name, p in net.named_parameters()}

    def draw(self, parameters: Parameters, noise: Tensor) -> tuple[Tensor, Tensor]:
        v, log_jacobian = self._each(parameters, noise, inverse=False)
        return v, _log_standard_normal(noise) - log_jacobian

    def log_prob(self, parameters: Parameters, v: Tensor) -> Tensor:
        noise, log_jacobian = self._each(parameters, v, inverse=True)
        return _log_standard_normal(noise) - log_jacobian

    def _each(self, parameters: Parameters, value: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        net = self._nets[value.shape[-1]]

        def one(own: Parameters, value: Tensor) -> tuple[Tensor, Tensor]:
            return functional_call(net, own, (value, inverse))

        return vmap(one, in_dims=(0, 1), out_dims=1)(parameters, value)

    def __str__(self) -> str:
        return f"flow ({self.layers} coupling layers)"


class _Layers(nn.Module):
    """noise ↔ v, and log|dv/dnoise|. It begins at the identity."""

    def __init__(self, d: int, layers: int, hidden: int):
        super().__init__()
        half = d // 2
        self.layers = nn.ModuleList()
        for _ in range(layers):
            net = DenseNN(half, [hidden], [d - half, d - half], nonlinearity=nn.Tanh())
            nn.init.zeros_(net.layers[-1].weight)
            nn.init.zeros_(net.layers[-1].bias)
            self.layers.append(transforms.AffineCoupling(half, net))

    def forward(self, value: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        total = value.new_zeros(value.shape[:-1])
        for layer in reversed(self.layers) if inverse else self.layers:
            value = value.flip(-1) if inverse else value  # halves change places: each is moved by the other
            assert isinstance(layer, transforms.AffineCoupling)
            moved = layer.inv(value) if inverse else layer(value)
            noise, v = (moved, value) if inverse else (value, moved)
            total = total + layer.log_abs_det_jacobian(noise, v)
            value = moved if inverse else moved.flip(-1)
        return value, total


@dataclass(frozen=True)
class Posteriors:
    """q*(u) of each point: a family's parameters, in units of the start. Tensors (N, ...)."""

    family: VariationalFamily
    parameters: Parameters
    loc: Tensor  # (N, d)
    spread: Tensor  # (N, d)

    def __len__(self) -> int:
        return len(self.loc)

    def sample(self, draws: int) -> tuple[Tensor, Tensor]:
        """u ~ q* and log q*(u): (draws, N, d), (draws, N)."""
        noise = torch.randn(draws, *self.loc.shape, dtype=self.loc.dtype, device=self.loc.device)
        with torch.no_grad():
            v, log_q = self.family.draw(self.parameters, noise)
        return self.loc + self.spread * v, log_q - self.spread.log().sum(-1)

    def log_prob(self, u: Tensor) -> Tensor:
        """log q*(u): (draws, N, d) → (draws, N)."""
        return self.family.log_prob(self.parameters, (u - self.loc) / self.spread) - self.spread.log().sum(-1)

    def rows(self, index: Tensor) -> "Posteriors":
        """Those of some points."""
        chosen = {name: value[index] for name, value in self.parameters.items()}
        return Posteriors(self.family, chosen, self.loc[index], self.spread[index])

    @staticmethod
    def concatenate(parts: "list[Posteriors]") -> "Posteriors":
        names = parts[0].parameters
        parameters = {name: torch.cat([part.parameters[name] for part in parts]) for name in names}
        loc, spread = torch.cat([part.loc for part in parts]), torch.cat([part.spread for part in parts])
        return Posteriors(parts[0].family, parameters, loc, spread)


def _detached(parameters: Parameters) -> Parameters:
    """Detach the score term, whose mean is zero.

    Then the gradient has no noise where q is the posterior (Roeder, Wu & Duvenaud 2017).
    """
    return {name: value.detach() for name, value in parameters.items()}


def _log_standard_normal(noise: Tensor) -> Tensor:
    return -0.5 * (noise.square() + math.log(2 * math.pi)).sum(-1)
