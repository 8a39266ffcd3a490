"""Where a computation on each point's posterior begins: at the fitted posterior, at the guide, or at the prior."""

from torch import Tensor

from ..errors import InvalidInputError, did_you_mean
from ..pair.execution import ModelOrGuide
from .laplace_limits import why_not_laplace

STARTS = ("posterior", "guide", "prior")


def choose_start_name(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, start: str | None) -> str:
    """Return which of `STARTS` is meant. If `start` is None: the posterior where its modes can be searched, else the guide.

    Raises:
        InvalidInputError: There is no such start, or it is the posterior and its modes are not searched.
    """
    if start is not None and start not in STARTS:
        raise InvalidInputError(
            f"There is no start '{start}'{did_you_mean(start, STARTS)}: give posterior, guide or prior."
        )
    if start in ("guide", "prior"):
        return start
    why = why_not_laplace(model, guide, x)
    if why and start is not None:
        raise InvalidInputError(f"Nothing can begin at the posterior. {why} Begin at the guide or the prior.")
    return "guide" if why else "posterior"
