"""Families p(x|z), from decoder outputs (`Likelihood`) or one density per class (`MixtureComponents`).

No file here knows a decoder, a latent or a guide. README.md lists the families and says how to add one.
`pyrovae.likelihoods.NAME` and `--set likelihood=NAME` find the classes of all files in this folder.
"""

from ..utils.namespaces import collect
from .base import Likelihood, checked_floor
from .bernoulli import Bernoulli, BernoulliMean
from .continuous import ContinuousBernoulli, StudentT
from .discrete import Categorical, DiscretisedLogistic, LogisticMixture, OverLevels
from .mixture_components import (
    Diagonal,
    Full,
    GaussianComponents,
    IndependentComponents,
    MixtureComponents,
    Spherical,
    Tied,
)
from .normal import FixedNormal, ImageNormal, Normal, PixelNormal

__all__ = [
    "Bernoulli",
    "BernoulliMean",
    "Categorical",
    "ContinuousBernoulli",
    "Diagonal",
    "DiscretisedLogistic",
    "FixedNormal",
    "Full",
    "GaussianComponents",
    "ImageNormal",
    "IndependentComponents",
    "Likelihood",
    "LogisticMixture",
    "MixtureComponents",
    "Normal",
    "OverLevels",
    "PixelNormal",
    "Spherical",
    "StudentT",
    "Tied",
    "checked_floor",
]
__all__ += collect(globals())  # and what other files of this folder define
