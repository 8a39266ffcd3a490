"""The posterior p(z|x) of each point: its unnormalised density, and approximations fitted point by point."""

from .refinement import RefinementResult
from .semi_amortised import SemiAmortised
from .variational_families import DiagonalGaussian, FlowFamily, FullGaussian

__all__ = ["DiagonalGaussian", "FlowFamily", "FullGaussian", "RefinementResult", "SemiAmortised"]
