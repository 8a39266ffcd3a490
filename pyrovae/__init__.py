"""pyrovae: latent-variable models as Pyro model/guide pairs, with a log p(x) that can be believed.

A pair is two callables, `model(x)` and `guide(x)`, that name the same latents inside `plate("data")`. Training, evidence,
comparison and the command line know nothing else of it.
"""

from importlib.metadata import version

from .data.datasets import Data, load_data
from .diagnostics.diagnosing import diagnose
from .diagnostics.result import LatentDiagnostics
from .distributions.normal import PrecisionNormal
from .errors import InvalidInputError, NonFiniteError
from .estimators.annealing import AISResult, ais
from .estimators.bidirectional import BDMCResult, bdmc, reverse_iwae
from .evaluation.comparing import Comparison, compare
from .evaluation.evaluating import evaluate
from .evaluation.gap_decomposition import GapResult, gap
from .evaluation.result import Evidence
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
from .likelihoods.base import Likelihood
from .likelihoods.bernoulli import Bernoulli, BernoulliMean
from .likelihoods.continuous import ContinuousBernoulli, StudentT
from .likelihoods.discrete import Categorical, DiscretisedLogistic, LogisticMixture
from .likelihoods.mixture_components import Diagonal, Full, IndependentComponents, MixtureComponents, Spherical, Tied
from .likelihoods.normal import FixedNormal, ImageNormal, Normal, PixelNormal
from .loading.networks import from_networks
from .loading.pairs import PairBuilder, available, load
from .nn import MLP, ConvDecoder, ConvEncoder, Module, Residual, over_batch
from .objectives import IWAE, STL, Beta, DReG, FreeBits, Objective, Renyi, Terms, WakeSleep
from .pair.importance_weights import log_weights
from .pair.sampling import sample
from .posterior.refinement import RefinementResult, refine
from .posterior.semi_amortised import SemiAmortised
from .posterior.variational_families import DiagonalGaussian, FlowFamily, FullGaussian
from .priors.base import Prior, StandardNormal
from .priors.flow import FlowPrior
from .priors.mixture import MixtureOfGaussians, VampPrior
from .runs.run import Run, load_run
from .statistics.log_weights import elbo, ess, log_likelihood
from .testing import check_pair
from .training import Checkpoints, EarlyStopping, FitResult, cosine, fit, iwae_schedule, with_warmup
from .training.em import EM, HasEMStep

__version__ = version("pyrovae")

__all__ = [
    "EM",
    "IAF",
    "IWAE",
    "MLP",
    "STL",
    "AISResult",
    "AffineCoupling",
    "Amortised",
    "AmortisedCategorical",
    "BDMCResult",
    "Bernoulli",
    "BernoulliMean",
    "Beta",
    "Categorical",
    "Checkpoints",
    "Comparison",
    "ContinuousBernoulli",
    "ConvDecoder",
    "ConvEncoder",
    "DReG",
    "Data",
    "Diagonal",
    "DiagonalGaussian",
    "DiscretisedLogistic",
    "EarlyStopping",
    "Evidence",
    "ExactPosterior",
    "FitResult",
    "FixedNormal",
    "FlowFamily",
    "FlowPrior",
    "FreeBits",
    "Full",
    "FullCovariance",
    "FullGaussian",
    "GapResult",
    "HasEMStep",
    "ImageNormal",
    "IndependentComponents",
    "InvalidInputError",
    "LatentDiagnostics",
    "Likelihood",
    "LinearGaussian",
    "LogisticMixture",
    "LowRank",
    "MeanField",
    "Mixture",
    "MixtureComponents",
    "MixtureOfGaussians",
    "Module",
    "NeuralSpline",
    "NonFiniteError",
    "Normal",
    "Objective",
    "PairBuilder",
    "PerPoint",
    "PixelNormal",
    "PrecisionNormal",
    "Prior",
    "RefinementResult",
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
    "iwae_schedule",
    "load",
    "load_data",
    "load_run",
    "log_likelihood",
    "log_weights",
    "over_batch",
    "refine",
    "reverse_iwae",
    "sample",
    "with_warmup",
]
