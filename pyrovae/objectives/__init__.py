r"""What training maximises. An objective is an object that `fit(objective=…)`, `pyrovae train --objective` and Pyro's `SVI` take.

| objective | maximised | gradient of the guide | source |
|---|---|---|---|
| none given | the ELBO, by the estimator that suits the pair | | `default_objective` |
| `Trace_ELBO()` | E_q[log p(x, z) − log q(z|x)], by the log-joint | through the draws; else a score function | Pyro |
| `TraceMeanField_ELBO()` | E_q[log p(x|z)] − KL(q ‖ p), KL in closed form | through the draws | Pyro |
| `TraceEnum_ELBO()` | the ELBO, classes summed | exact in them | Pyro |
| `TraceGraph_ELBO()` | the ELBO | score function, less what cannot depend on it | Pyro |
| `IWAE(K)` | L_K = E log 1/K Σ w | through the draws | Burda et al. 2016 |
| `STL(K)` | L_K | through the draws alone; biased for K > 1 | Roeder et al. 2017 |
| `DReG(K)` | L_K | through the draws alone | Tucker et al. 2019 |
| `Renyi(α, K)` | 1/(1−α) E log 1/K Σ w^(1−α) | through the draws | Li & Turner 2016 |
| `Beta(β)` | E_q[log p(x|z)] − β KL | as by `default_objective` | Higgins et al. 2017 |
| `FreeBits(λ)` | E_q[log p(x|z)] − Σ_j max(λ, KL_j) | through the draws | Kingma et al. 2016 |
| `WakeSleep(K)` | L_K of the model; of the guide KL(p ‖ q) | of log q at draws that are given | Hinton et al. 1995 |

What `fit` calls ELBO is the ELBO whatever is maximised, or NaN if the objective does not provide its terms. `loss` is minus the
objective.

No file here steps an optimiser or reads data. To add an objective, put a file here with a subclass of `Objective` that writes
`batch`, or of `MultiSampleObjective` that writes `bound`: `pyrovae.objectives.NAME` and `--objective "NAME(…)"` find it.
"""

from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO

from ..utils.namespaces import collect
from .base import HasObjective, HasTerms, Objective, Terms
from .beta import Beta, warm_up
from .elbo import default_objective, differentiable_loss, is_elbo, name_of, resolve_objective
from .free_bits import FreeBits
from .importance_weighted import IWAE, MultiSampleObjective, Renyi
from .path_gradients import STL, DReG, PathGradient
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
    "resolve_objective",
    "warm_up",
]
__all__ += collect(globals())  # and what other files of this folder define
