"""Families p(z) for models with a continuous latent.

A prior may read the guide (`VampPrior` does); no file here knows a model. README.md lists the families and says how to add one.
`pyrovae.priors.NAME` and `--set prior=NAME` find the classes of all files in this folder.
"""

from ..utils.namespaces import collect
from .base import Prior, StandardNormal
from .flow import FlowPrior
from .mixture import MixtureOfGaussians, VampPrior

__all__ = ["FlowPrior", "MixtureOfGaussians", "Prior", "StandardNormal", "VampPrior"]
__all__ += collect(globals())  # and what other files of this folder define
