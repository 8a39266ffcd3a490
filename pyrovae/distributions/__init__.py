"""`TorchDistribution`s that Pyro and torch lack, each with the reason why it exists.

A file holds one distribution, or a few of one kind. They know no models, no guides and no data. To add one, write a file with a
class that derives from `TorchDistribution`, and say in its docstring what torch's own cannot do.
"""

from .conditional import Conditional, conditional_of, conditional_of_factors
from .indexed import Indexed
from .missing_entries import observed
from .mixture_normal import MixtureNormal
from .normal import PrecisionNormal
from .observed_factors import ObservedFactors, observed_em_step

__all__ = [
    "Conditional",
    "Indexed",
    "MixtureNormal",
    "ObservedFactors",
    "PrecisionNormal",
    "conditional_of",
    "conditional_of_factors",
    "observed",
    "observed_em_step",
]
