"""Families q(z|x). `guide(x)` names the latent `z` inside `plate("data")`, and nothing else.

A file holds one family. No file here knows a model, a likelihood or data. To add a family, put a file here with a subclass of
`Amortised` that writes `num_outputs` and `distribution`: `pyrovae.guides.NAME` and `--set guide=NAME` find it.

| guide | q(z|x) | for a latent |
|---|---|---|
| `MeanField` | N(μ(x), diag σ²(x)), networks of x | in R^k |
| `LowRank` | N(μ(x), diag σ²(x) + F(x) F(x)ᵀ) | in R^k |
| `FullCovariance` | N(μ(x), L(x) L(x)ᵀ) | in R^k |
| `LinearGaussian` | N(Ax + b, L Lᵀ), one L for all x | in R^k |
| `Mixture` | Σ_j π_j(x) N(μ_j(x), diag σ_j²(x)) | in R^k |
| `IAF`, `AffineCoupling`, `NeuralSpline` | μ(x) + σ(x) ∘ T(ε; h(x)), T a flow | in R^k, k ≥ 2 |
| `PerPoint` | any of these with parameters of each point's own | in R^k |
| `AmortisedCategorical` | Cat(softmax f(x)) | among K classes |
| `ExactPosterior` | p(z|x) itself | whose model has `posterior(x)` |
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
