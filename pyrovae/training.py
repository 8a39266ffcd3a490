"""fit(): stochastic variational inference, through the objective that the caller passes."""

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import ELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoGuide
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from .errors import Diverged, Refusal
from .weights import (
    Program,
    Structure,
    draw_weights,
    fork_rng,
    inspect,
    local_parameters,
    parameters,
    refuse_bad_points,
    refuse_outside_support,
)


class Points(Protocol):
    """Data on one device: a tensor (N, ...), or anything that gives one for an index, such as `datasets.Redrawn`."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any) -> Tensor: ...


@runtime_checkable
class StartsFromData(Protocol):
    """A model that begins at values computed from data. `fit` calls `initialise` once, unless `initialised` is true."""

    initialised: Tensor

    def initialise(self, x: Tensor) -> None: ...


@dataclass
class Fit:
    """How a fit went. `losses` are nats per data point, one an epoch: −ELBO averaged over its batches' points."""

    losses: list[float] = field(default_factory=list)
    objective: str = ""
    steps: int = 0
    seconds: float = 0.0


def cosine(optimizer: Optimizer, steps: int) -> LRScheduler:
    """The learning rate from its start to 0 along half a cosine (Loshchilov & Hutter 2017, eq. 5)."""
    return CosineAnnealingLR(optimizer, max(1, steps))


def adam(params: Iterable[Tensor], lr: float) -> Optimizer:
    """Adam, fused: one kernel for all parameters where Pyro's own wrapper keeps an optimiser for each."""
    return torch.optim.Adam(params, lr=lr, fused=True)


def fit(
    model: Program,
    guide: Program,
    x: Points,
    *,
    epochs: int = 100,
    batch_size: int | None = 128,
    lr: float = 1e-3,
    seed: int = 0,
    objective: ELBO | None = None,
    optimizer: Callable[[Iterable[Tensor], float], Optimizer] = adam,
    schedule: Callable[[Optimizer, int], LRScheduler] | None = cosine,
    on_epoch: Callable[[Fit], None] | None = None,
) -> Fit:
    """Train model and guide, in place, by steps along the gradient of `objective` on batches of x.

    x is (N, ...) on the device and in the type of the parameters; `batch_size` points are drawn without replacement for
    each step (None: all of them), and the last batch of an epoch may be smaller. `objective` is a Pyro ELBO object, by
    default the one that `default_objective` finds for the pair. `on_epoch` is called with the fit so far after every epoch.

    A model with `initialise(x)` starts from the data the first time it is fitted. The same seed gives the same run on the
    same machine; torch's random state is left as it was.

    Raises `Refusal` for pairs and data that have no ELBO per point, `Diverged` when a loss stops being a number, naming the
    epoch, the step, and, where it can be found, the site and the data point.
    """
    if epochs < 0 or (batch_size is not None and batch_size < 1) or not lr > 0:
        raise Refusal(f"epochs ≥ 0, batch_size ≥ 1 and lr > 0 are needed; got {epochs}, {batch_size} and {lr}.")
    started = time.perf_counter()
    device = getattr(x, "device", torch.device("cpu"))
    if not isinstance(device, torch.device):  # NumPy's arrays have one too, a string
        raise Refusal(
            f"x is {type(x).__name__}: convert it with torch.as_tensor(x), to the type of the model's parameters."
        )
    with fork_rng(device, seed), local_parameters(model, guide):
        everything = x[:]
        refuse_bad_points(everything)
        _training_mode(model, guide)
        size = min(batch_size or len(x), len(x))
        if size < len(x) and isinstance(guide, AutoGuide):
            raise Refusal(
                "An autoguide has parameters for every point, so it is fitted on all at once: batch_size=None."
            )
        first = everything[:size]
        structure = inspect(model, guide, first)
        refuse_outside_support(structure, first, everything)
        if isinstance(model, StartsFromData) and not bool(model.initialised):
            with fork_rng(device):  # what follows is the same, whether the model had to be started or came started
                model.initialise(everything)
        if objective is None:
            objective = default_objective(structure)
        optim = optimizer(parameters(model, guide, first), lr)
        steps = -(-len(x) // size)
        scheduler = schedule(optim, epochs * steps) if schedule else None
        result = Fit(objective=type(objective).__name__)
        with pyro.validation_enabled(False), warnings.catch_warnings():  # the pair was inspected above
            warnings.filterwarnings("ignore", "Encountered (NaN|\\+inf|-inf)")  # said below, with the place
            for _ in range(epochs):
                total = 0.0
                order = torch.randperm(len(x), device=device)
                for index in order.split(size):
                    batch = everything if len(index) == len(x) and everything is x else x[index]
                    optim.zero_grad()
                    loss = objective.loss_and_grads(model, guide, batch)
                    if loss != loss or loss in (float("inf"), float("-inf")):
                        _explain(model, guide, batch, index, structure, result)
                    optim.step()
                    if scheduler:
                        scheduler.step()
                    total += loss
                    result.steps += 1
                result.losses.append(total / len(x))
                result.seconds = time.perf_counter() - started
                if on_epoch:
                    on_epoch(result)
    result.seconds = time.perf_counter() - started
    return result


def default_objective(structure: Structure) -> ELBO:
    """The ELBO estimator with the least variance that the pair's sites allow.

    - a latent marked for enumeration: `TraceEnum_ELBO`, its expectation summed;
    - a discrete latent that is not: `TraceGraph_ELBO`, whose score-function terms leave out what cannot depend on it;
    - Gaussian latents with factorised guide and prior: `TraceMeanField_ELBO`, KL(q‖p) in closed form;
    - any other: `Trace_ELBO`. With an exact guide its pathwise gradient has no variance, which a closed-form KL would spoil.
    """
    latents = structure.latents
    guide = structure.guide_trace.nodes
    enumerated = any(
        latent.summed_out or guide[latent.name]["infer"].get("enumerate") == "parallel" for latent in latents
    )
    if enumerated:
        return TraceEnum_ELBO(max_plate_nesting=structure.nesting)
    if any(latent.classes is not None for latent in latents):
        return TraceGraph_ELBO()
    pairs = [(structure.model_trace.nodes[latent.name]["fn"], guide[latent.name]["fn"]) for latent in latents]
    if all(_is_mean_field(prior) and _is_mean_field(posterior) for prior, posterior in pairs):
        return TraceMeanField_ELBO()
    return Trace_ELBO()


def _is_mean_field(fn: Any) -> bool:
    while isinstance(fn, torch.distributions.Independent):
        fn = fn.base_dist
    return isinstance(fn, dist.Normal)


def _training_mode(*programs: Program) -> None:
    for program in programs:
        if isinstance(program, nn.Module):
            program.train()


def _explain(model: Program, guide: Program, batch: Tensor, index: Tensor, structure: Structure, result: Fit) -> None:
    """Raise `Diverged` with where it happened: the step always, the site and the point where another draw shows them."""
    where = f"The loss is not finite at step {result.steps + 1} (epoch {len(result.losses) + 1})"
    try:
        with torch.no_grad():
            draw_weights(model, guide, batch, 1, structure.nesting)
    except Diverged as error:
        raise Diverged(f"{where}: {error} (Points are counted in the batch; x[{index[:3].tolist()}…].)") from None
    raise Diverged(f"{where}: lower the learning rate or floor the variances.")
