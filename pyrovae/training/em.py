"""EM as a way to begin: coordinate ascent on the ELBO, for models that know both of its half-steps in closed form."""

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import InvalidInputError, NonFiniteError, check_int
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.validation import check_points, handles_missing


@runtime_checkable
class HasEMStep(Protocol):
    """A model that knows its EM step (Dempster, Laird & Rubin 1977).

    `em_step(x)` takes q(z|x) = p(z|x) at the parameters so far, and then raises the ELBO over all of x, to its
    maximum if that is known. It returns the mean log p(x) *before* the step, a number or a tensor (), in nats per
    point.
    """

    def em_step(self, x: Tensor) -> Tensor | float: ...


class EM:
    """Start training with steps of expectation–maximisation over all points.

    It ends when a step gains less than `tol`, or after `steps`. A model that is not initialised is so first, by
    `start(model, x)` or by its own `initialise(x)`. Then its `initialised` becomes true, so that `fit` continues from
    there.

    Args:
        steps: The largest number of steps.
        tol: The smallest gain, in nats per point.
        start: A function of (model, x) that sets the parameters, in place of the model's `initialise`.

    Raises:
        InvalidInputError: `steps` is below 1, `tol` is negative, or `start` is no function.

    Example:
        >>> import pyrovae, torch
        >>> model, guide = pyrovae.load("gmm")(2, components=2)
        >>> log_likelihoods = pyrovae.EM(steps=5)(model, torch.randn(100, 2))  # or fit(init="em")
    """

    def __init__(self, steps: int = 100, tol: float = 1e-3, start: Callable[[Any, Tensor], None] | None = None):
        check_int("steps", steps, 1, shown=f"EM(steps={steps})")
        if not 0 <= tol < math.inf:
            raise InvalidInputError(f"EM(tol={tol}): give a gain in nats per point, at least 0.")
        if start is not None and not callable(start):
            raise InvalidInputError(
                f"EM(start={start!r:.40}): give a function start(model, x) that sets the model's parameters."
            )
        self.steps, self.tol, self.start = steps, tol, start

    def __repr__(self) -> str:
        return f"EM(steps={self.steps}, tol={self.tol:g})"

    def __call__(self, model: ModelOrGuide, x: Tensor) -> list[float]:
        """Move the parameters from where they are, in place.

        Args:
            model: A model with `em_step`.
            x: The points (N, ...), on the device and in the type of the parameters.

        Returns:
            The mean log p(x) before each step, nats per point. The parameters are one step further than the last one.

        Raises:
            InvalidInputError: The model has no `em_step`.
            NonFiniteError: log p(x) is not finite.
        """
        if not isinstance(model, HasEMStep):
            raise InvalidInputError(
                f"{type(model).__name__} has no em_step(x), so EM cannot start it: leave init out, or write em_step, which "
                "makes one step and returns the mean log p(x) before it."
            )
        check_points(x, handles_missing(model))
        values: list[float] = []
        with evaluation_mode(model), torch.no_grad():
            self._begin(model, x)
            for step in range(self.steps):
                values.append(float(model.em_step(x)))
                if not math.isfinite(values[-1]):
                    raise NonFiniteError(
                        f"EM stopped at step {step + 1}: the mean log p(x) is {values[-1]}; floor the variances."
                    )
                if step > 0 and values[-1] - values[-2] < self.tol:
                    break
        return values

    def _begin(self, model: Any, x: Tensor) -> None:
        started = getattr(model, "initialised", None)
        if started is not None and bool(started):
            return
        if self.start is not None:
            self.start(model, x)
        elif hasattr(model, "initialise"):
            model.initialise(x)
        if isinstance(started, Tensor):
            started.fill_(True)
