"""fit() and what it is made of: the loop, schedules, sources of batches, the recorded step, checkpoints."""

from .checkpoints import Checkpoints
from .course import Fit
from .loop import StartsFromData, fit
from .schedules import adam, cosine, staged, warmed
from .sources import Points
from .stopping import EarlyStopping

__all__ = [
    "Checkpoints",
    "EarlyStopping",
    "Fit",
    "Points",
    "StartsFromData",
    "adam",
    "cosine",
    "fit",
    "staged",
    "warmed",
]
