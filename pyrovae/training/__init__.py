"""How a pair is trained: `fit`, `validate`, and their parts.

`fit` is in fitting.py, everything before the first step in preparation.py, the loop in trainer.py, and all that a step depends on
in state.py. Steps, data sources, schedules, early stopping, checkpoints and starts by EM have a file each. Objectives live in
`objectives`, run folders in `runs`, and nothing here evaluates log p(x). To add a schedule, write a function of
(optimizer, steps) in schedules.py. To add an argument of `fit`, add a field with its check to `TrainingSettings` in
arguments.py.
"""

from .batches import Points
from .checkpoints import Checkpoints
from .early_stopping import EarlyStopping
from .fitting import fit
from .preparation import StartsFromData, validate
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
    "validate",
    "with_warmup",
]
