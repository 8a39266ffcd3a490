"""Estimates and bounds of log p(x), one number for each point, in bounded memory.

One file for each estimator: `batched_scoring` (importance sampling), `mode_sampling` (about the posterior's modes, to a
tolerance), `two_sided` (bounds from both sides on any data), `annealing` (AIS; `annealing_starts` says from where, and
`annealing_path` moves the chains), `bidirectional` (BDMC and reverse IWAE, on simulated points), `prior_sampling`, `exact`. Bounds
from both sides have `bracket` as the base of their results. The other files are their parts: layouts of batches, draws of the guide, compiled
graphs, low precision, partial results, coupled chains, Hamiltonian trajectories, step sizes, temperatures.

Judgements of reliability and comparisons of models belong in `evaluation`. To add an estimator: write a file with a function
`(model, guide, x, num_samples, seed) -> result`, whose result derives from `statistics.result.PointwiseResult`.
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
