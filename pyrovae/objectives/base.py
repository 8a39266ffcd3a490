"""What an objective is to `fit`: a batch's loss as tensors, so that a step can be recorded."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from pyro import poutine
from pyro.infer import ELBO
from torch import Tensor

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide
from ..pair.sites import density_sites
from ..pair.structure import Structure, inspect_pair


class Terms(NamedTuple):
    """The loss of a batch in nats, with the two parts of the ELBO: E_q[log p(x|z)] and KL.

    The parts are those of the same draws, or of the same sum. Without `kl`, the loss is −ELBO, and KL = loss +
    reconstruction. KL warm-up subtracts a part of `kl` from the loss. So `kl` must be what the loss of an ELBO holds:
    the log-density of each latent times the scale of its site.
    """

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor | None = None

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """Return those of loss, reconstruction and KL that there are."""
        return self[:2] if self.kl is None else (self.loss, self.reconstruction, self.kl)


@runtime_checkable
class HasTerms(Protocol):
    """An objective of your own that can be recorded: tensors in, tensors out, without reading a value."""

    def terms(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> Terms: ...


@runtime_checkable
class HasObjective(Protocol):
    """A guide that is trained by an objective of its own, unless the caller names another."""

    def objective(self) -> ELBO | HasTerms: ...


LossOf = Callable[[ModelOrGuide, ModelOrGuide, Tensor], Terms]


class Objective(ELBO):
    """Base of the objectives of pyrovae. A new one writes `batch`.

    `fit(objective=…)` takes it, and so does Pyro's `SVI`.
    """

    communicates = False  # whether processes that share a batch exchange numbers inside the loss

    def batch(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure) -> Terms:
        """Return the terms of a batch x (B, ...), summed over its points and scaled as SVI does.

        The pair is made like `structure`.
        """
        raise NotImplementedError

    def check(self, structure: Structure) -> None:
        """Raise `InvalidInputError` for a pair that has no such objective."""
        if structure.no_density:
            raise InvalidInputError(
                f"{structure.no_density} {self!r} is about log p(x): train it without an objective."
            )

    def bind(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure) -> LossOf | str:
        """Return `batch` for pairs like this one, or a sentence that says why it cannot be computed in tensors."""
        self.check(structure)
        return functools.partial(self.batch, structure=structure)

    def terms(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> Terms:
        """Inspect a pair and return the terms of a batch."""
        with poutine.block():
            structure = inspect_pair(model, guide, x)
        self.check(structure)
        return self.batch(model, guide, x, structure)

    def differentiable_loss(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> Tensor:
        """Return the loss as a tensor. Its gradient is that of the objective."""
        return self.terms(model, guide, x).loss

    def loss(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> float:
        with torch.no_grad():
            return self.terms(model, guide, x).loss.item()

    def loss_and_grads(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> float:
        """Return the loss, and add its gradient to the gradients of the parameters."""
        loss = self.differentiable_loss(model, guide, x)
        if loss.requires_grad:
            loss.backward()
        return loss.item()

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError  # Pyro's own objects are made of this

    def __repr__(self) -> str:
        """As it would be written after `--objective`."""
        return f"{type(self).__name__}({', '.join(map(_written, self.hyperparameters()))})"

    def hyperparameters(self) -> tuple[float, ...]:
        """The arguments that the objective was made with."""
        return ()


def _written(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)


def check_num_samples(num_samples: int) -> int:
    """Return the number of draws, if it is a whole number above 0."""
    if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 1:
        raise InvalidInputError(f"num_samples is {num_samples}: give the number of draws for each point, at least 1.")
    return num_samples


def check_number(name: str, value: float, least: float = 0.0) -> float:
    """Return the number, if it is finite and not below `least`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
        raise InvalidInputError(f"{name} is {value}: give a finite number, at least {least:g}.")
    return float(value)


def check_reparameterised(objective: Objective, structure: Structure) -> None:
    """Raise `InvalidInputError` where a latent is drawn without reparameterisation."""
    for site in density_sites(structure.guide_trace):
        if not site["fn"].has_rsample:
            raise InvalidInputError(
                f"{objective!r} moves the guide along its draws, and latent '{site['name']}' is drawn without "
                'reparameterisation: sum it out (infer={"enumerate": "parallel"} in the model, and none in the guide), or use '
                "WakeSleep, or the ELBO (TraceGraph_ELBO), whose gradient is a score function's."
            )
