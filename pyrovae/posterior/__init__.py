"""The posterior p(z|x) of each point: its unnormalised density, and approximations that are fitted point by point.

`joint_density` gives log p(x, z) as a function of plain vectors. `modes` climbs to its modes, `mode_search` says from where, and
`mode_mixture` draws from a mixture about them. `compiled_density` records it. `variational_families` are the
shapes that an approximation can have, `optimise` fits one, and `refinement` is the verb `refine`. `semi_amortised` turns the
result into a guide. `posterior_sampling` is the verb `sample_posterior`, from the modes to means, covariances and draws,
and `result` what it returns. `latent_densities` has closed forms of one latent's q and p, `prior_grid` p(z) of two on a
grid. `starts` says where refinement and annealing begin, `laplace_limits` for which pairs modes are searched, and
`resampled_draws` makes draws of equal weight. `precision` says whether single precision suffices. `batching` splits points into chunks.

Estimates of log p(x) belong in `estimators`, networks that predict q(z|x) in `guides`. To add a family: subclass
`VariationalFamily` in `variational_families`.
"""

from .posterior_sampling import sample_posterior
from .refinement import RefinementResult
from .result import PosteriorModes, PosteriorResult
from .semi_amortised import SemiAmortised
from .variational_families import DiagonalGaussian, FlowFamily, FullGaussian

__all__ = [
    "DiagonalGaussian",
    "FlowFamily",
    "FullGaussian",
    "PosteriorModes",
    "PosteriorResult",
    "RefinementResult",
    "SemiAmortised",
    "sample_posterior",
]
