"""What training maximises. An objective is an object that `fit(objective=…)`, `pyrovae train --objective` and Pyro's `SVI` take.

No file here steps an optimiser or reads data. README.md lists the objectives, with what each maximises and by which gradient, and
says how to add one. `pyrovae.objectives.NAME` and `--objective "NAME(…)"` find the classes of all files in this folder.
"""

from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO

from ..utils.namespaces import collect
from .base import HasObjective, HasTerms, Objective, Terms
from .beta import Beta, warm_up
from .elbo import default_objective, differentiable_loss, is_elbo, name_of, resolve_objective, sums_over_points
from .free_bits import FreeBits
from .importance_weighted import IWAE, MultiSampleObjective, Renyi
from .path_gradients import STL, DReG, PathGradient
from .shared_batches import place_in_batch
from .wake_sleep import WakeSleep

__all__ = [
    "IWAE",
    "STL",
    "Beta",
    "DReG",
    "FreeBits",
    "HasObjective",
    "HasTerms",
    "MultiSampleObjective",
    "Objective",
    "PathGradient",
    "Renyi",
    "Terms",
    "TraceEnum_ELBO",
    "TraceGraph_ELBO",
    "TraceMeanField_ELBO",
    "Trace_ELBO",
    "WakeSleep",
    "default_objective",
    "differentiable_loss",
    "is_elbo",
    "name_of",
    "place_in_batch",
    "resolve_objective",
    "sums_over_points",
    "warm_up",
]
__all__ += collect(globals())  # and what other files of this folder define
