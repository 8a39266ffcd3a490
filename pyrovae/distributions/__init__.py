"""`TorchDistribution`s that Pyro and torch lack, each with the reason it exists."""

from .indexed import Indexed
from .mixture_normal import MixtureNormal
from .normal import PrecisionNormal

__all__ = ["Indexed", "MixtureNormal", "PrecisionNormal"]
