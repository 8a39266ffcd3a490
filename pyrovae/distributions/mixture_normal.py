"""A mixture of diagonal normals with reparameterised draws."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor


class MixtureNormal(dist.MixtureOfDiagNormals):
    """Pyro's mixture of diagonal normals, with another pathwise gradient of its draws.

    The distributional transform u_d = F(z_d | z_<d) of a draw is uniform, whatever the parameters φ are. If u is
    fixed, the draw moves with φ by dz/dφ = −(∂u/∂z)⁻¹ ∂u/∂φ (implicit reparameterisation: Figurnov, Mohamed & Mnih
    2018, §4). ∂u/∂z is triangular. Pyro's own gradient divides by the density itself. In single precision that is 0
    from about 90 latent numbers on. It also does not take one latent number, and is NaN where two components have one
    mean.
    """

    def expand(self, batch_shape: Any, _instance: Any = None) -> "MixtureNormal":
        return MixtureNormal(
            self.locs.expand(*batch_shape, *self.locs.shape[-2:]),
            self.coord_scale.expand(*batch_shape, *self.locs.shape[-2:]),
            self.component_logits.expand(*batch_shape, -1),
        )

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        with torch.no_grad():
            which = self.categorical.sample(torch.Size(sample_shape))[..., None, None].expand(*shape, 1, self.dim)
            loc, scale = (part.expand(*shape, -1, -1).gather(-2, which) for part in (self.locs, self.coord_scale))
            z = (loc + scale * torch.randn_like(loc)).squeeze(-2)
        if not torch.is_grad_enabled():
            return z
        u = (z.unsqueeze(-2) - self.locs) / self.coord_scale  # (..., K, D)
        log_density = -0.5 * u.square() - self.coord_scale.log()
        before = torch.cumsum(log_density, dim=-1) - log_density  # of z_1 … z_{d−1}
        share = (self.component_logits.unsqueeze(-1) + before).softmax(dim=-2)  # of each component, given z_<d
        below = 0.5 * torch.erfc(-u / 2**0.5)  # Φ
        transform = (share * below).sum(-2)
        with torch.no_grad():
            slope = -u / self.coord_scale  # ∂ log N(z_e) / ∂z_e
            mean_slope = torch.einsum("...kd,...ke->...de", share, slope)
            jacobian = torch.einsum("...kd,...ke->...de", share * below, slope) - transform.unsqueeze(-1) * mean_slope
            diagonal = (share * log_density.exp()).sum(-2) / (2 * torch.pi) ** 0.5
            jacobian = jacobian.tril(-1) + torch.diag_embed(diagonal)
        moved = torch.linalg.solve_triangular(jacobian, (transform - transform.detach()).unsqueeze(-1), upper=False)
        return z - moved.squeeze(-1)
