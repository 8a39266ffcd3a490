"""Where a fit began, to say so where it ends below: a rate that is far too high may leave the ELBO finite, and absurd."""

import math
from collections.abc import Sequence

import torch

from ..errors import InvalidInputError, NonFiniteError
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.importance_weights import log_weights_unchecked
from ..pair.structure import Structure
from ..utils.random import fork_rng
from .batches import Source, seed_of

SLACK = 0.1  # nats: a start at the optimum may lose a little
ROWS = 512  # points: of a few, a lucky draw has a small error besides
REMEDY = "lower lr, clip the gradient, or stop early"
ERRORS = 4.0  # of the start's own error: where nothing was lost, fewer than 3 in 1000 fits are said to end below


def initial_elbo(
    model: ModelOrGuide, guide: ModelOrGuide, source: Source, structure: Structure, seed: int
) -> tuple[float, float]:
    """Return the ELBO before the first step and its standard error over points and draws, nats per point.

    It is of a batch's worth of points or more. NaN if there is no ELBO.
    """
    if structure.no_density:
        return math.nan, math.nan
    x = source.example[: max(source.size, ROWS)]
    try:
        with evaluation_mode(model, guide), torch.no_grad(), fork_rng(source.device, seed_of("start", seed)):
            elbo = log_weights_unchecked(model, guide, x, 1, structure.max_plate_nesting)[0].double()
    except (InvalidInputError, NonFiniteError, RuntimeError, ValueError):  # the first step will say it, with its place
        return math.nan, math.nan
    return float(elbo.mean()), float(elbo.std() / math.sqrt(len(elbo))) if len(elbo) > 1 else math.inf


def elbo_decline_warning(history: Sequence[dict[str, float]], start: float, error: float) -> str:
    """A sentence, where the ELBO ended lower than it was before the first step, or in the first epoch, by more than noise.

    It ended in the last epoch, or in the one whose parameters early stopping went back to. Where no ELBO is told, the loss is
    held to that of the first epoch, if the KL weighed the same in both.
    """
    if not history:
        return ""
    validated = [row for row in history if math.isfinite(row["validation_elbo"])]
    first, last = history[0], max(validated, key=lambda row: row["validation_elbo"]) if validated else history[-1]
    if math.isfinite(last["elbo"]) and math.isfinite(error):
        began, end = max(start, first["elbo"]) if math.isfinite(first["elbo"]) else start, last["elbo"]
        if end < began - SLACK - ERRORS * error:
            change = f"an ELBO of {_number(end)} nats per point, below the {_number(began)}"
            return f"Training ended at {change} that it began at: {REMEDY}."
    elif last["loss"] > first["loss"] + SLACK and first["kl_weight"] == last["kl_weight"]:
        change = f"a loss of {_number(last['loss'])} per point, above the {_number(first['loss'])}"
        return f"Training ended at {change} of its first epoch: {REMEDY}."
    return ""


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1e6 else f"{value:.3g}"
