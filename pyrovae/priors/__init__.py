"""Families p(z) for models with a continuous latent.

A prior may read the guide (`VampPrior` does); no file here knows a model. To add a family, put a file here with a subclass of
`Prior` that writes `prepare` and `forward`: `pyrovae.priors.NAME` and `--set prior=NAME` find it.

| prior | p(z) |
|---|---|
| `StandardNormal` | N(0, I) |
| `MixtureOfGaussians` | Σ_k π_k N(μ_k, diag σ_k²) |
| `VampPrior` | (1/K) Σ_k q(z | u_k), u_k learned |
| `FlowPrior` | f(ε), f a flow, ε ~ N(0, I) |
"""

from ..utils.namespaces import collect
from .base import Prior, StandardNormal
from .flow import FlowPrior
from .mixture import MixtureOfGaussians, VampPrior

__all__ = ["FlowPrior", "MixtureOfGaussians", "Prior", "StandardNormal", "VampPrior"]
__all__ += collect(globals())  # and what other files of this folder define
