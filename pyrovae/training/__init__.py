"""fit() and what it is made of: the loop, objectives, schedules, sources of batches, the recorded step, checkpoints."""

from .checkpoints import Checkpoints
from .course import Fit
from .loop import StartsFromData, fit
from .objectives import Terms, default_objective
from .schedules import adam, cosine, staged, warmed
from .sources import Points
from .stopping import EarlyStopping

__all__ = [
    "Checkpoints",
    "EarlyStopping",
    "Fit",
    "Points",
    "StartsFromData",
    "Terms",
    "adam",
    "cosine",
    "default_objective",
    "fit",
    "staged",
    "warmed",
]
