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
    """A batch's loss in nats, and the ELBO's own two parts beside it: E_q[log p(x|z)] and KL, as one draw or sum has them.

    Where `kl` is left out the loss is −ELBO: KL = loss + reconstruction. A `fit` with KL warm-up takes its weight off the KL, so
    `kl` is to stand here as it would in the loss of an ELBO, each latent's log-density times its site's scale.
    """

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor | None = None

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """What there is of loss, reconstruction, KL."""
        return self[:2] if self.kl is None else (self.loss, self.reconstruction, self.kl)


@runtime_checkable
class HasTerms(Protocol):
    """An objective of one's own that can be recorded: tensors in, tensors out, and no value read on the way."""

    def terms(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> Terms: ...


@runtime_checkable
class HasObjective(Protocol):
    """A guide that is trained by an objective of its own, where the caller names none."""

    def objective(self) -> ELBO | HasTerms: ...


LossOf = Callable[[ModelOrGuide, ModelOrGuide, Tensor], Terms]


class Objective(ELBO):
    """One of pyrovae's own: for `fit(objective=…)`, and for Pyro's `SVI` like Pyro's own objects. A new one writes `batch`."""

    def batch(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure) -> Terms:
        """The terms of a batch x (B, ...) of a pair that is made like `structure`, summed over its points and scaled as SVI does."""
        raise NotImplementedError

    def check(self, structure: Structure) -> None:
        """Raise `InvalidInputError` for a pair that has no such objective."""
        if structure.no_density:
            raise InvalidInputError(
                f"{structure.no_density} {self!r} is about log p(x): train it without an objective."
            )

    def bind(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure) -> LossOf | str:
        """`batch` for pairs like this one; where it cannot be had in tensors, what stands in the way."""
        self.check(structure)
        return functools.partial(self.batch, structure=structure)

    def terms(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> Terms:
        """The terms of a batch of any pair, which is looked over first."""
        with poutine.block():
            structure = inspect_pair(model, guide, x)
        self.check(structure)
        return self.batch(model, guide, x, structure)

    def differentiable_loss(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> Tensor:
        """The loss, whose gradient is the objective's."""
        return self.terms(model, guide, x).loss

    def loss(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> float:
        with torch.no_grad():
            return self.terms(model, guide, x).loss.item()

    def loss_and_grads(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> float:
        """The loss; its gradient is added to what the parameters have of it."""
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
        """What it was made with."""
        return ()


def _written(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)


def check_num_samples(num_samples: int) -> int:
    """The number of draws, if it is one."""
    if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 1:
        raise InvalidInputError(f"num_samples is {num_samples}: give the number of draws for each point, at least 1.")
    return num_samples


def check_number(name: str, value: float, least: float = 0.0) -> float:
    """The number, if it is finite and not below `least`."""
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
