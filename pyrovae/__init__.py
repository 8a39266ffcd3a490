"""pyrovae: latent-variable models as Pyro model/guide pairs, with a log p(x) that can be believed.

A pair is two callables, `model(x)` and `guide(x)`, that name the same latents inside `plate("data")`. Training, evidence,
comparison and the command line know nothing else of it.
"""

from importlib.metadata import version

from .comparison import Comparison, compare
from .components import Components, Diagonal, Full, Independent, Spherical, Tied
from .datasets import Data, load_data
from .em import EM, HasEMStep
from .errors import Diverged, Refusal
from .evaluation import evaluate
from .evidence import Evidence, elbo, ess, log_likelihood
from .guides import (
    IAF,
    AffineCoupling,
    Amortised,
    AmortisedCategorical,
    ExactPosterior,
    FullCovariance,
    LinearGaussian,
    LowRank,
    MeanField,
    Mixture,
    NeuralSpline,
    PerPoint,
)
from .likelihoods import Bernoulli, FixedNormal, ImageNormal, Likelihood, Normal, PixelNormal
from .loading import Pair, available, load
from .nets import MLP, ConvDecoder, ConvEncoder, Module, Residual, over_batch
from .normals import PrecisionNormal
from .pixel_likelihoods import Categorical, ContinuousBernoulli, DiscretisedLogistic, LogisticMixture, StudentT
from .priors import FlowPrior, MixtureOfGaussians, Prior, StandardNormal, VampPrior
from .running import sample
from .runs import Run, load_run
from .testing import check_pair
from .training import Checkpoints, EarlyStopping, Fit, cosine, fit, staged, warmed
from .weights import log_weights

__version__ = version("pyrovae")

__all__ = [
    "EM",
    "IAF",
    "MLP",
    "AffineCoupling",
    "Amortised",
    "AmortisedCategorical",
    "Bernoulli",
    "Categorical",
    "Checkpoints",
    "Comparison",
    "Components",
    "ContinuousBernoulli",
    "ConvDecoder",
    "ConvEncoder",
    "Data",
    "Diagonal",
    "DiscretisedLogistic",
    "Diverged",
    "EarlyStopping",
    "Evidence",
    "ExactPosterior",
    "Fit",
    "FixedNormal",
    "FlowPrior",
    "Full",
    "FullCovariance",
    "HasEMStep",
    "ImageNormal",
    "Independent",
    "Likelihood",
    "LinearGaussian",
    "LogisticMixture",
    "LowRank",
    "MeanField",
    "Mixture",
    "MixtureOfGaussians",
    "Module",
    "NeuralSpline",
    "Normal",
    "Pair",
    "PerPoint",
    "PixelNormal",
    "PrecisionNormal",
    "Prior",
    "Refusal",
    "Residual",
    "Run",
    "Spherical",
    "StandardNormal",
    "StudentT",
    "Tied",
    "VampPrior",
    "available",
    "check_pair",
    "compare",
    "cosine",
    "elbo",
    "ess",
    "evaluate",
    "fit",
    "load",
    "load_data",
    "load_run",
    "log_likelihood",
    "log_weights",
    "over_batch",
    "sample",
    "staged",
    "warmed",
]
