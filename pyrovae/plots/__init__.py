"""Figures of results. They compute nothing that a result does not hold.

Each function takes a result and returns a matplotlib `Figure`, which its caller saves. Those with one panel draw into
`axes` if they are given some. No window is opened. Matplotlib and scikit-learn are imported in the functions: only a
process that draws loads them. The arrays behind pictures of one pair are computed in `exploration`. `note` writes
into the corner where a figure is from.
"""

from .choice import choice_plot
from .comparison import bound_curves, evidence_plot, learning_curves, samples_beside_data
from .diagnosis import activity_curve, aggregate_and_prior, boundary_pictures, hole_pictures, kl_bars
from .differences import difference_plot
from .elbo_terms import training
from .gap import gap_bars
from .latent_plane import latent_scatter, latent_scatters, manifold, traversals
from .one_point import posterior
from .parts import components
from .ranked_points import ranking
from .rows import analogy, interpolation, reconstructions, samples
from .style import note
from .weights import pareto_k_plot

__all__ = [
    "activity_curve",
    "aggregate_and_prior",
    "analogy",
    "bound_curves",
    "boundary_pictures",
    "choice_plot",
    "components",
    "difference_plot",
    "evidence_plot",
    "gap_bars",
    "hole_pictures",
    "interpolation",
    "kl_bars",
    "latent_scatter",
    "latent_scatters",
    "learning_curves",
    "manifold",
    "note",
    "pareto_k_plot",
    "posterior",
    "ranking",
    "reconstructions",
    "samples",
    "samples_beside_data",
    "training",
    "traversals",
]
