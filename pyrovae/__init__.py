"""pyrovae: latent-variable models as Pyro model/guide pairs, with a log p(x) that can be believed.

A pair is two callables, `model(x)` and `guide(x)`, that name the same latents inside `plate("data")`. Training, evidence,
comparison and the command line know nothing else of it.
"""

from importlib.metadata import version

from .adapters import from_networks
from .comparison import Comparison, compare
from .components import Components, Diagonal, Full, Independent, Spherical, Tied
from .datasets import Data, load_data
from .diagnosis import Diagnosis
from .em import EM, HasEMStep
from .errors import Diverged, Refusal
from .estimators.annealing import Annealed, ais
from .estimators.bracket import Bracket, bdmc, reverse_iwae
from .estimators.diagnose import diagnose
from .estimators.families import DiagonalGaussian, Flow, FullGaussian
from .estimators.gaps import Gaps, gap
from .estimators.refinement import Refined, refine
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
from .likelihoods import Bernoulli, BernoulliMean, FixedNormal, ImageNormal, Likelihood, Normal, PixelNormal
from .loading import Pair, available, load
from .nets import MLP, ConvDecoder, ConvEncoder, Module, Residual, over_batch
from .normals import PrecisionNormal
from .objectives import IWAE, STL, Beta, DReG, FreeBits, Objective, Renyi, Terms, WakeSleep
from .pixel_likelihoods import Categorical, ContinuousBernoulli, DiscretisedLogistic, LogisticMixture, StudentT
from .priors import FlowPrior, MixtureOfGaussians, Prior, StandardNormal, VampPrior
from .running import sample
from .runs import Run, load_run
from .semi_amortised import SemiAmortised
from .testing import check_pair
from .training import Checkpoints, EarlyStopping, Fit, cosine, fit, staged, warmed
from .weights import log_weights

__version__ = version("pyrovae")

__all__ = [
    "EM",
    "IAF",
    "IWAE",
    "MLP",
    "STL",
    "AffineCoupling",
    "Amortised",
    "AmortisedCategorical",
    "Annealed",
    "Bernoulli",
    "BernoulliMean",
    "Beta",
    "Bracket",
    "Categorical",
    "Checkpoints",
    "Comparison",
    "Components",
    "ContinuousBernoulli",
    "ConvDecoder",
    "ConvEncoder",
    "DReG",
    "Data",
    "Diagnosis",
    "Diagonal",
    "DiagonalGaussian",
    "DiscretisedLogistic",
    "Diverged",
    "EarlyStopping",
    "Evidence",
    "ExactPosterior",
    "Fit",
    "FixedNormal",
    "Flow",
    "FlowPrior",
    "FreeBits",
    "Full",
    "FullCovariance",
    "FullGaussian",
    "Gaps",
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
    "Objective",
    "Pair",
    "PerPoint",
    "PixelNormal",
    "PrecisionNormal",
    "Prior",
    "Refined",
    "Refusal",
    "Renyi",
    "Residual",
    "Run",
    "SemiAmortised",
    "Spherical",
    "StandardNormal",
    "StudentT",
    "Terms",
    "Tied",
    "VampPrior",
    "WakeSleep",
    "ais",
    "available",
    "bdmc",
    "check_pair",
    "compare",
    "cosine",
    "diagnose",
    "elbo",
    "ess",
    "evaluate",
    "fit",
    "from_networks",
    "gap",
    "load",
    "load_data",
    "load_run",
    "log_likelihood",
    "log_weights",
    "over_batch",
    "refine",
    "reverse_iwae",
    "sample",
    "staged",
    "warmed",
]
