"""Figures of results. They compute nothing that a result does not hold.

Each function takes a result and returns a matplotlib `Figure`, which its caller saves. Matplotlib and scikit-learn are imported
in the functions: only a process that draws loads them.
"""

from .choice import choice_plot
from .comparison import bound_curves, evidence_plot, learning_curves, samples_beside_data
from .diagnosis import activity_curve, aggregate_and_prior, boundary_pictures, hole_pictures, kl_bars
from .gap import gap_bars

__all__ = [
    "activity_curve",
    "aggregate_and_prior",
    "bound_curves",
    "boundary_pictures",
    "choice_plot",
    "evidence_plot",
    "gap_bars",
    "hole_pictures",
    "kl_bars",
    "learning_curves",
    "samples_beside_data",
]
