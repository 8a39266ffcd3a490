"""Families p(x|z), from decoder outputs (`Likelihood`) or one density per class (`MixtureComponents`).

No file here knows a decoder, a latent or a guide. To add a family, put a file here with a subclass of `Likelihood` that writes
`num_outputs`, `forward` and `initial_outputs`: `pyrovae.likelihoods.NAME` and `--set likelihood=NAME` find it.

| family | p(x|z) | x | measure |
|---|---|---|---|
| `Bernoulli`, `BernoulliMean` | Bernoulli of logits, of means | {0, 1} | counting |
| `Normal`, `PixelNormal`, `ImageNormal`, `FixedNormal` | N(η, σ²): σ of the network, of each pixel, of all, given | R | Lebesgue |
| `ContinuousBernoulli` | ∝ λ^x (1 − λ)^(1−x) | [0, 1] | Lebesgue |
| `StudentT` | t_ν(μ, σ) | R | Lebesgue |
| `Categorical`, `DiscretisedLogistic`, `LogisticMixture` | a probability of each level | levels | counting |
| `Full`, `Diagonal`, `Spherical`, `Tied` | N(μ_k, Σ_k) of class k | R | Lebesgue |
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
