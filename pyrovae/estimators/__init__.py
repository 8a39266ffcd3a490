"""Estimates and bounds of log p(x), one number for each point, in bounded memory.

Each estimator has a file. README.md of this folder lists them, and says how to add one. Bounds from both sides have `bracket` as the
base of their results. The other files are parts of the estimators.

Judgements of reliability and comparisons of models belong in `evaluation`.
"""

from ..utils.namespaces import collect
from .annealing import AISResult, ais
from .bidirectional import BDMCResult, bdmc, reverse_iwae
from .prior_sampling import PriorSamplingResult, prior_sampling_log_likelihood

__all__ = [
    "AISResult",
    "BDMCResult",
    "PriorSamplingResult",
    "ais",
    "bdmc",
    "prior_sampling_log_likelihood",
    "reverse_iwae",
]
__all__ += collect(globals(), classes=False)  # and what other files of this folder name in their `__all__`
