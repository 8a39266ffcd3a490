"""Guide families q(z|x) that any model can wear: `guide(x)` names the latent `z` inside `plate("data")`, and nothing else.

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
