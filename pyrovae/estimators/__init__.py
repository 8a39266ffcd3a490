"""Estimates and bounds of log p(x) from weights, in bounded memory: importance sampling, AIS, BDMC, prior sampling.

An estimator is a function of `(model, guide, x, …)`. It knows no model and no data set; what it does with a pair is in `pair`.
To add one, put a file here that names its function in `__all__`: `pyrovae.estimators.NAME` finds it. A file without `__all__`
is a part of other estimators.
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
