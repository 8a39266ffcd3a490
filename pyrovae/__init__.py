"""pyrovae: latent-variable models as Pyro model/guide pairs, with a log p(x) that can be believed.

A pair is two callables, `model(x)` and `guide(x)`, that name the same latents inside `plate("data")`. Training, evidence,
comparison and the command line know nothing else of it.
"""

from importlib.metadata import version

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
from .guides import AmortisedCategorical, ExactPosterior, FullCovariance, LinearGaussian, MeanField
from .likelihoods import Bernoulli, FixedNormal, ImageNormal, Likelihood, Normal, PixelNormal
from .loading import Pair, available, load
from .nets import MLP, Module, over_batch
from .normals import PrecisionNormal
from .running import sample
from .runs import Run, load_run
from .semi_amortised import SemiAmortised
from .testing import check_pair
from .training import Checkpoints, EarlyStopping, Fit, cosine, fit, staged, warmed
from .weights import log_weights

__version__ = version("pyrovae")

__all__ = [
    "EM",
    "MLP",
    "AmortisedCategorical",
    "Annealed",
    "Bernoulli",
    "Bracket",
    "Checkpoints",
    "Comparison",
    "Components",
    "Data",
    "Diagnosis",
    "Diagonal",
    "DiagonalGaussian",
    "Diverged",
    "EarlyStopping",
    "Evidence",
    "ExactPosterior",
    "Fit",
    "FixedNormal",
    "Flow",
    "Full",
    "FullCovariance",
    "FullGaussian",
    "Gaps",
    "HasEMStep",
    "ImageNormal",
    "Independent",
    "Likelihood",
    "LinearGaussian",
    "MeanField",
    "Module",
    "Normal",
    "Pair",
    "PixelNormal",
    "PrecisionNormal",
    "Refined",
    "Refusal",
    "Run",
    "SemiAmortised",
    "Spherical",
    "Tied",
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
