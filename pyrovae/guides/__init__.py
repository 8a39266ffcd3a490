"""Families q(z|x). `guide(x)` names the latent `z` inside `plate("data")`, and nothing else.

A file holds one family. No file here knows a model, a likelihood or data. README.md lists the families and says how to add one.
`pyrovae.guides.NAME` and `--set guide=NAME` find the classes of all files in this folder.
"""

from ..distributions.mixture_normal import MixtureNormal
from ..utils.namespaces import collect
from .amortised import Amortised, lower, positive
from .categorical import AmortisedCategorical
from .exact import ExactPosterior, HasPosterior
from .flows import IAF, AffineCoupling, Flow, NeuralSpline
from .gaussian import FullCovariance, LinearGaussian, LowRank, MeanField
from .mixture import Mixture
from .per_point import PerPoint

__all__ = [
    "IAF",
    "AffineCoupling",
    "Amortised",
    "AmortisedCategorical",
    "ExactPosterior",
    "Flow",
    "FullCovariance",
    "HasPosterior",
    "LinearGaussian",
    "LowRank",
    "MeanField",
    "Mixture",
    "MixtureNormal",
    "NeuralSpline",
    "PerPoint",
    "lower",
    "positive",
]
__all__ += collect(globals())  # and what other files of this folder define
