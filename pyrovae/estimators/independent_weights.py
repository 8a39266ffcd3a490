"""Log-weights of independent draws, from the mixture about a posterior's modes or from the guide, chunk by chunk."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import InvalidInputError, NonFiniteError
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.importance_weights import log_weights
from ..pair.parameters import is_per_point
from ..pair.structure import inspect_pair
from ..posterior.batching import MIN_CHUNK_DRAWS, block_sizes, chunk_points, in_chunks, in_chunks_of
from ..posterior.joint_density import Joint
from ..posterior.laplace_limits import why_not_laplace
from ..posterior.mixture_fitting import fit_mixture
from ..posterior.mode_search import choose_search
from ..posterior.precision import CHECKED_POINTS, in_sufficient_precision
from .coupled_resampling import DrawWeights
from .exact import exact_log_likelihood

TRIED_POINTS, TRIED_DRAWS = 64, 8  # to see whether the guide is the posterior
ROUNDING = 64  # units in the last place by which equal log-weights may differ

Result = TypeVar("Result")
# (how to draw weights for a chunk, the variance (n,) of a point's weights by a pilot, the index of the chunk's first point)
# → what is computed from them. The variance is relative to the squared mean, and 0 where no pilot was run.
Work = Callable[[DrawWeights, Tensor, int], Result]
TOLERANCE = 0.05  # nats, that the pilot is run for


def choose_proposal(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> str:
    """Where to draw from: "modes", or "guide" for a pair without modes to search for, and for a guide that is the posterior.

    It is the posterior where every log-weight equals the model's own `log_prob`. Equal weights alone would not do: a guide may be
    right about one mode, and not know of another.
    """
    some = x if is_per_point(guide, x) else x[:TRIED_POINTS]
    exact = exact_log_likelihood(model, some)
    if exact is not None:
        error = (log_weights(model, guide, some, TRIED_DRAWS).double().cpu() - exact).abs()
        if bool((error <= ROUNDING * torch.finfo(x.dtype).eps * exact.abs().clamp(min=1)).all()):
            return "guide"
    return "guide" if why_not_laplace(model, guide, some) else "modes"


def with_weights_about_modes(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, seed: int, work: Work[Result]
) -> list[Result]:
    """What `work` returns for each chunk of points, from draws of the mixture about their modes.

    Raises `InvalidInputError` for a pair without modes to search for; `NonFiniteError` for a weight that is no number.
    """
    per_point = is_per_point(guide, x)
    model, guide, x = in_sufficient_precision(model, guide, x, len(x) if per_point else CHECKED_POINTS)

    def of_chunk(joint: Joint, start: int) -> Result:
        mixture, needed = fit_mixture(joint, search(joint), TOLERANCE)

        def draw(count: int, rows: Tensor) -> Tensor:
            part, own = joint.subset(rows), mixture.subset(rows)
            blocks = block_sizes(count, len(part.x))
            return _numbers(torch.cat([own.weigh_independent(part, size) for size in blocks]))

        return work(draw, needed * TOLERANCE**2, start)

    with evaluation_mode(model, guide):  # which may be copies in double precision
        search = choose_search(model, guide, x, seed)
        return in_chunks(model, guide, x, MIN_CHUNK_DRAWS, of_chunk)


def with_guide_weights(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, work: Work[Result]) -> list[Result]:
    """What `work` returns for each chunk of points, from draws of the guide.

    Raises `InvalidInputError` for a guide that knows only one z for each x; `NonFiniteError` for a weight that is no number.
    """
    per_point = is_per_point(guide, x)
    if inspect_pair(model, guide, x if per_point else x[:TRIED_POINTS]).deterministic_guide:
        raise InvalidInputError(
            "The guide knows only one z for each x, so its weights bound log p(x) from below and never from above: give the "
            "pair a guide that draws."
        )

    def of_chunk(points: Tensor, start: int) -> Result:
        def draw(count: int, rows: Tensor) -> Tensor:
            chosen = points if per_point else points[rows]  # a guide with parameters for each point takes all of them
            log_w = torch.cat([log_weights(model, guide, chosen, size) for size in block_sizes(count, len(chosen))])
            return _numbers(log_w.double()[:, rows] if per_point else log_w.double())

        return work(draw, torch.zeros(len(points), dtype=torch.float64, device=points.device), start)

    return in_chunks_of(x, len(x) if per_point else chunk_points(x, MIN_CHUNK_DRAWS), of_chunk, per_point)


def _numbers(log_w: Tensor) -> Tensor:
    """The log-weights, if all are numbers. A weight of zero is one."""
    if bool((log_w.isnan() | (log_w == torch.inf)).any()):
        raise NonFiniteError(
            "A log-weight is no finite number: the density of the model or of the proposal overflows at some draw."
        )
    return log_w
