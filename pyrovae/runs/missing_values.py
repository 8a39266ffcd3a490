"""Data with missing values and pairs that take none: refused by the cell, in the words of the file."""

import torch

from ..data.datasets import Data
from ..errors import InvalidInputError
from ..missing import any_missing
from ..pair.execution import ModelOrGuide
from ..pair.validation import handles_missing


def check_missing_values(name: str, model: ModelOrGuide, data: Data) -> None:
    """Raise `InvalidInputError` that names the first cell without a value, unless the model takes such data.

    Args:
        name: What the pair is called.
        model: Its model.
        data: The points to train on and to score.
    """
    if handles_missing(model):
        return
    for x, rows in ((data.train[:], data.train_rows), (data.test, data.test_rows)):
        if any_missing(x):
            missing = x.isnan()
            source = torch.arange(len(x)) if rows is None else rows
            row = int(source[missing.any(dim=1).cpu()].min())
            column = int(missing[(source == row).to(x.device)][0].nonzero()[0])
            called = data.column_names[column] if data.column_names else str(column)
            raise InvalidInputError(
                f"{data.name} has no value at row {row}, column {called}, and {name} takes no missing values: remove such rows, fill "
                "them (pyrovae impute), or choose a pair that takes them, such as ppca, gmm or vae. A model of your own takes them "
                "if it says handles_missing = True, and observes pyrovae.distributions.observed(density, x)."
            )
