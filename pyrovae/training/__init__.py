"""fit() and what it is made of: the loop, schedules, sources of batches, the recorded step, checkpoints."""

from .batches import Points
from .checkpoints import Checkpoints
from .early_stopping import EarlyStopping
from .fitting import StartsFromData, fit
from .result import Fit
from .schedules import adam, cosine, staged, warmed

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
