"""fit() and what it is made of: the loop, its objectives, schedules, sources of data, the recorded step, EM."""

from .loop import Fit, Points, StartsFromData, adam, cosine, default_objective, fit

__all__ = ["Fit", "Points", "StartsFromData", "adam", "cosine", "default_objective", "fit"]
