"""fit() and what it is made of: the loop, schedules, sources of batches, the recorded step, checkpoints."""

from .batches import Points
from .checkpoints import Checkpoints
from .early_stopping import EarlyStopping
from .fitting import StartsFromData, fit
from .result import FitResult
from .schedules import adam, cosine, iwae_schedule, with_warmup

__all__ = [
    "Checkpoints",
    "EarlyStopping",
    "FitResult",
    "Points",
    "StartsFromData",
    "adam",
    "cosine",
    "fit",
    "iwae_schedule",
    "with_warmup",
]
