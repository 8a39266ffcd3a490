"""Families p(x|z), from decoder outputs (`Likelihood`) or one density per class (`MixtureComponents`).

| family | p(x|z) | x | measure |
|---|---|---|---|
| `Bernoulli`, `BernoulliMean` | Bernoulli of logits, of means | {0, 1} | counting |
| `Normal`, `PixelNormal`, `ImageNormal`, `FixedNormal` | N(η, σ²): σ of the network, of each pixel, of all, given | R | Lebesgue |
| `ContinuousBernoulli` | ∝ λ^x (1 − λ)^(1−x) | [0, 1] | Lebesgue |
| `StudentT` | t_ν(μ, σ) | R | Lebesgue |
| `Categorical`, `DiscretisedLogistic`, `LogisticMixture` | a probability of each level | levels | counting |
| `Full`, `Diagonal`, `Spherical`, `Tied` | N(μ_k, Σ_k) of class k | R | Lebesgue |
"""

from .base import Likelihood, checked_floor
from .bernoulli import Bernoulli, BernoulliMean
from .continuous import ContinuousBernoulli, StudentT
from .discrete import Categorical, DiscretisedLogistic, LogisticMixture, OverLevels
from .mixture_components import Diagonal, Full, IndependentComponents, MixtureComponents, Spherical, Tied
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
