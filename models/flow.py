"""Normalising flow: z ~ N(0, I), x = f(z), f a bijection: log p(x) = log N(f⁻¹(x) | 0, I) + log|det ∂f⁻¹/∂x|.

A latent-variable model whose decoder p(x|z) = δ(x − f(z)) and encoder q(z|x) = δ(z − f⁻¹(x)) are both certain. Their ratio is
the Jacobian's determinant, δ(x − f(z)) / δ(z − f⁻¹(x)) = |det ∂f⁻¹/∂x|. So the ELBO is log p(x) itself, without a gap
(Nielsen et al. 2020, section 3). Transforms are Pyro's, and go from x to z: a density costs one pass through them.
"""

from typing import Any

import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as transforms
import torch
from pyro.nn import AutoRegressiveNN, DenseNN
from torch import Tensor, nn

import pyrovae

TRAINING_DEFAULTS = {"steps": 1000, "batch_size": 128, "lr": 1e-3}


class Linear(transforms.GeneralizedChannelPermute):
    """z = P L U x, P a fixed permutation, L and U triangular (Kingma & Dhariwal 2018, section 3.2)."""

    domain = codomain = dist.constraints.real_vector
    LU: nn.Parameter

    def __init__(self, dim: int, hidden: tuple[int, ...] = ()):
        super().__init__(dim)
        self.LU = nn.Parameter(self.LU.detach().contiguous())  # of any other Pyro's store would train a copy

    def _call(self, x: Tensor) -> Tensor:  # Pyro's is a convolution over images, this its one pixel
        return x @ (self.permutation @ self.L @ self.U).mT

    def _inverse(self, y: Tensor) -> Tensor:
        half = torch.linalg.solve_triangular(self.L, (y @ self.permutation).unsqueeze(-1), upper=False)
        return torch.linalg.solve_triangular(self.U, half, upper=True).squeeze(-1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.U_diag.abs().log().sum().expand(x.shape[:-1])


class Autoregressive(transforms.AffineAutoregressive):
    """z_i = σ_i(x_<i) x_i + μ_i(x_<i): x_i given x_<i is Gaussian (Papamakarios, Pavlakou & Murray 2017).

    A draw takes a pass for each x_i. A masked network needs layers of at least dim units, and gets them.
    """

    def __init__(self, dim: int, hidden: tuple[int, ...]):
        super().__init__(AutoRegressiveNN(dim, [max(width, dim) for width in hidden], nonlinearity=nn.Tanh()))

    def _inverse(self, y: Tensor) -> Tensor:  # Pyro's is in single precision; here x_i is right after i passes
        x = torch.zeros_like(y)
        for _ in range(y.shape[-1] + 1):
            mean, log_scale = self.arn(x)
            self._cached_log_scale = log_scale.clamp(self.log_scale_min_clip, self.log_scale_max_clip)
            x = (y - mean) * (-self._cached_log_scale).exp()
        return x


class Coupling(transforms.AffineCoupling):
    """z_a = x_a, z_b = σ(x_a) x_b + μ(x_a): draws cost what densities do (Dinh, Sohl-Dickstein & Bengio 2017)."""

    def __init__(self, dim: int, hidden: tuple[int, ...]):
        half = dim // 2
        super().__init__(half, DenseNN(half, list(hidden), [dim - half, dim - half], nonlinearity=nn.Tanh()))


class Spline(transforms.SplineAutoregressive):
    """z_i = s(x_i; x_<i), s a monotone rational spline of 8 pieces (Durkan et al. 2019; Dolatabadi et al. 2020)."""

    def __init__(self, dim: int, hidden: tuple[int, ...]):
        widths = [max(width, dim) for width in hidden]
        super().__init__(dim, AutoRegressiveNN(dim, widths, [8, 8, 7, 8], nonlinearity=nn.Tanh()))


class Flow(pyrovae.Module):
    """z ~ N(0, I), x ~ δ(x − f(z)); f⁻¹ whitens x as its data are at the start, then goes through `layers`."""

    initialised: Tensor
    loc: Tensor
    root: Tensor

    def __init__(self, dim: int, layers: list[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.register_buffer("loc", torch.zeros(dim))
        self.register_buffer("root", torch.eye(dim))  # L of the data's covariance L Lᵀ
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior())
            pyro.sample("x", Decoded(self.inverse(), z), obs=x)

    def prior(self) -> dist.TorchDistribution:
        return dist.Normal(torch.zeros_like(self.loc), torch.ones_like(self.loc)).to_event(1)

    def inverse(self) -> transforms.ComposeTransform:
        """f⁻¹, from x to z."""
        whiten = transforms.LowerCholeskyAffine(self.loc, self.root, cache_size=1).inv
        return transforms.ComposeTransform([whiten, *self.layers])

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z = f⁻¹(x), (*batch, dim), and log|det ∂f⁻¹/∂x|, (*batch,)."""
        inverse, x = self.inverse(), fresh(x)
        z = inverse(x)
        return z, inverse.log_abs_det_jacobian(x, z)

    def decode(self, z: Tensor) -> Tensor:
        """x = f(z): (*batch, dim) → (*batch, dim)."""
        return self.inverse().inv(fresh(z))

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(f⁻¹(x) | 0, I) + log|det ∂f⁻¹/∂x|: (N, dim) → (N,), nats."""
        z, log_det = self.encode(x)
        return self.prior().log_prob(z) + log_det

    def initialise(self, x: Tensor) -> None:
        """Begin at about the data's Gaussian."""
        centre, scale = pyrovae.nn.column_units(x)
        y = (x.double() - centre) / scale
        ridge = 1e-4 * torch.eye(x.shape[1], dtype=y.dtype, device=x.device)
        root = torch.linalg.cholesky(torch.cov(y.mT, correction=0) + ridge)
        self.loc.copy_(centre + scale * y.mean(dim=0))
        self.root.copy_(scale.unsqueeze(-1) * root)
        self.initialised.fill_(True)


class Decoded(dist.TorchDistribution):
    """δ(x − f(z)): its draw is f(z). As a density, 1 (in units of x's atoms) where x is f(z), and 0 elsewhere."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own protocol)
    support = dist.constraints.real_vector

    def __init__(self, inverse: transforms.ComposeTransform, z: Tensor):
        self.inverse, self.z = inverse, z
        super().__init__(z.shape[:-1], z.shape[-1:], validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Decoded":
        return Decoded(self.inverse, self.z.expand(*batch_shape, *self.event_shape))

    @property
    def mean(self) -> Tensor:
        return self.inverse.inv(fresh(self.z))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return self.mean.expand(torch.Size(sample_shape) + self.batch_shape + self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return at(self.inverse(fresh(value)), self.z)


class Atom(dist.Delta):
    """Pyro's Delta, to a thousandth: the last digits of f⁻¹(x) change with the size of the batch that it is computed in."""

    def log_prob(self, value: Tensor) -> Tensor:
        return at(value, self.v) + self.log_density


def at(value: Tensor, place: Tensor) -> Tensor:
    """log 1 where value (*batch, dim) is at its place, log 0 elsewhere: (*batch,)."""
    there = torch.isclose(value, place, rtol=1e-3, atol=1e-3).all(dim=-1)
    return torch.zeros_like(there, dtype=place.dtype).masked_fill(~there, -torch.inf)


def fresh(x: Tensor) -> Tensor:
    """x as a new object: transforms answer for the object that they saw last from memory, by parameters since moved."""
    return x.view_as(x)


class Encoder:
    """q(z|x) = δ(z − f⁻¹(x)): x's atom carried to z, where its density is |det ∂f⁻¹/∂x|⁻¹."""

    def __init__(self, flow: Flow):
        self.flow = flow

    def __call__(self, x: Tensor) -> None:
        z, log_det = self.flow.encode(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", Atom(z, log_density=-log_det, event_dim=1))


def pair(
    dim: int, layers: int = 2, hidden: tuple[int, ...] = (64,), transform: type = Autoregressive
) -> tuple[Flow, Encoder]:
    """Build the model and its guide.

    Args:
        dim: D, the size of one point x.
        transform: Linear, Autoregressive, Coupling or Spline, or any of Pyro's that is made from (dim, hidden) and
            goes from x to z. Each but the first has a Linear before it.
        layers: How many transforms are composed.
        hidden: Widths of the networks of the transforms.
    """
    if dim < 2 or layers < 1:
        raise pyrovae.InvalidInputError(
            f"A flow of {layers} layers over {dim} numbers: give at least 1 layer, and 2 numbers."
        )
    stack: list[nn.Module] = []
    for _ in range(layers):
        if stack and transform is not Linear:
            stack.append(Linear(dim))
        stack.append(transform(dim, hidden))
    model = Flow(dim, stack)
    return model, Encoder(model)
