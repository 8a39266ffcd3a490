"""From one point to another through the latent space, and what is to C as B is to A."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidInputError, check_int
from ..pair.execution import ModelOrGuide
from .grids import check_row
from .latent_space import LatentSpace

MAX_ITERATIONS = 200  # of L-BFGS, for the shortest path


@dataclass(frozen=True)
class Interpolation:
    """Two ways from the encoding of one point to that of another, T points each. Tensors on the CPU."""

    ends: Tensor  # (2, D), the points themselves
    straight: Tensor  # (T, d), z on the straight line
    shortest: Tensor  # (T, d), z on the path of least energy under the decoder's metric
    decoded_straight: Tensor  # (T, D), E[x|z]
    decoded_shortest: Tensor  # (T, D)

    @property
    def lengths(self) -> tuple[float, float]:
        """Σ_t ‖E[x|z_{t+1}] − E[x|z_t]‖ of the straight and of the shortest path, in the units of x."""
        return _length(self.decoded_straight), _length(self.decoded_shortest)


@dataclass(frozen=True)
class Analogy:
    """A is to B as C is to D, with z_D = z_C + z_B − z_A. Tensors on the CPU."""

    x: Tensor  # (3, D), the points A, B and C
    decoded: Tensor  # (4, D), E[x|z] at z_A, z_B, z_C and z_D
    latents: Tensor  # (4, d)


def interpolate(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, first: int, last: int, steps: int = 11
) -> Interpolation:
    """Decode x on the way between the encodings of two points: on a straight line, and on the decoder's shortest path.

    The decoder pulls the distance of x back to z: the length of a path is that of its image E[x|z]. The shortest path has the least
    energy Σ_t ‖E[x|z_{t+1}] − E[x|z_t]‖², which also makes its steps equal.

    Args:
        model: The model.
        guide: Its guide.
        x: Points (N, D).
        first: The row of x where the path begins.
        last: The row where it ends.
        steps: T, points on each path, both ends included.

    Returns:
        An `Interpolation`.

    Raises:
        InvalidInputError: The pair draws no continuous latent, or x has no such row.

    References:
        Arvanitidis, Hansen & Hauberg (2018). Latent space oddity: on the curvature of deep generative models. ICLR.
    """
    check_int("steps", steps, 3)
    for index in (first, last):
        check_row(index, x)
    if first == last:
        raise InvalidInputError(f"The path from point {first} to itself is no path: give two different points.")
    space = LatentSpace(model, guide, x)
    ends = x[[first, last]]
    z = space.encode(ends) if not space.whole else space.encode(x)[[first, last]]
    t = torch.linspace(0, 1, steps, device=z.device, dtype=z.dtype)[:, None]
    straight = z[0] + t * (z[1] - z[0])
    shortest = _least_energy(space, straight)
    with torch.no_grad():
        decoded = space.decode(torch.cat([straight, shortest])).flatten(1)
    return Interpolation(ends.cpu(), straight.cpu(), shortest.cpu(), *decoded.cpu().split(steps))


def analogy(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, a: int, b: int, c: int) -> Analogy:
    """What is to point C as B is to A: decode z_C + z_B − z_A, with z = E_q[z|x].

    Args:
        model: The model.
        guide: Its guide.
        x: Points (N, D).
        a: The row of A.
        b: The row of B.
        c: The row of C.

    Returns:
        An `Analogy`.

    Raises:
        InvalidInputError: The pair draws no continuous latent, or x has no such row.
    """
    rows = [check_row(index, x) for index in (a, b, c)]
    space = LatentSpace(model, guide, x)
    z = space.encode(x[rows]) if not space.whole else space.encode(x)[rows]
    z = torch.cat([z, (z[2] + z[1] - z[0])[None]])
    with torch.no_grad():
        decoded = space.decode(z).flatten(1)
    return Analogy(x[rows].cpu(), decoded.cpu(), z.cpu())


def _least_energy(space: LatentSpace, straight: Tensor) -> Tensor:
    """The path between the same ends whose image has the least energy, from the straight line by L-BFGS."""
    with torch.enable_grad():
        inner = straight[1:-1].detach().clone().requires_grad_()
        optimizer = torch.optim.LBFGS([inner], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

        def energy() -> Tensor:
            optimizer.zero_grad()
            path = torch.cat([straight[:1], inner, straight[-1:]])
            value = space.decode(path).flatten(1).diff(dim=0).square().sum()
            (inner.grad,) = torch.autograd.grad(value, inner)
            return value

        optimizer.step(energy)
    return torch.cat([straight[:1], inner.detach(), straight[-1:]])


def _length(decoded: Tensor) -> float:
    return float(decoded.double().diff(dim=0).norm(dim=-1).sum())
