"""Families p(z) for models with a continuous latent.

| prior | p(z) |
|---|---|
| `StandardNormal` | N(0, I) |
| `MixtureOfGaussians` | Σ_k π_k N(μ_k, diag σ_k²) |
| `VampPrior` | (1/K) Σ_k q(z | u_k), u_k learned |
| `FlowPrior` | f(ε), f a flow, ε ~ N(0, I) |
"""

from .base import Prior, StandardNormal
from .flow import FlowPrior
from .mixture import MixtureOfGaussians, VampPrior

__all__ = ["FlowPrior", "MixtureOfGaussians", "Prior", "StandardNormal", "VampPrior"]
