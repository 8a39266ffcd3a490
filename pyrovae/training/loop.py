"""fit(): stochastic variational inference, through the objective that the caller passes."""

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import ELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoGuide
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from ..errors import Diverged, Refusal, blamed
from ..running import Program, fork_rng, in_one_line, local_parameters, modules, parameters, refuse_hidden, sites
from ..structure import Structure, inspect, observed_sites, refuse_bad_points, refuse_value
from ..weights import draw_weights


class Points(Protocol):
    """Data on one device: a tensor (N, ...), or anything that gives one for an index, such as `datasets.Redrawn`."""

    @property
    def device(self) -> torch.device: ...
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

    losses: list[float] = field(default_factory=list, repr=False)
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
    same machine; torch's random state is left as it was. Modules are left in evaluation mode.

    Raises `Refusal` for pairs and data that have no ELBO per point, `Diverged` when a loss stops being a number, naming the
    epoch, the step, and, where it can be found, the site and the data point.
    """
    _refuse_arguments(x, epochs, batch_size, lr)
    started = time.perf_counter()
    device = x.device
    with fork_rng(device, seed), local_parameters(model, guide), _training_mode(model, guide):
        everything = x[:]
        refuse_bad_points(everything)
        size = min(batch_size or len(x), len(x))
        if size < len(x) and isinstance(guide, AutoGuide):
            raise Refusal(
                "An autoguide has parameters for every point, so it is fitted on all at once: batch_size=None."
            )
        structure = _inspect_all(model, guide, everything, size)
        if isinstance(model, StartsFromData) and not bool(model.initialised):
            # What follows is the same, whether the model had to be started or came started.
            with fork_rng(device), blamed("model.initialise(x)"):
                model.initialise(everything)
        objective = objective or default_objective(structure)
        leaves = parameters(everything[:size], guide, model)
        refuse_hidden(leaves, model, guide)
        if not leaves:
            raise Refusal("The pair has no parameters, so there is nothing to fit: evaluate it as it is.")
        optim = optimizer(leaves, lr)
        scheduler = schedule(optim, epochs * -(-len(x) // size)) if schedule else None
        result = Fit(objective=type(objective).__name__)
        with pyro.validation_enabled(False), warnings.catch_warnings():  # the pair was inspected above
            warnings.filterwarnings("ignore", "Encountered (NaN|\\+inf|-inf)")  # said below, with the place
            for _ in range(epochs):
                total = 0.0
                for index in torch.randperm(len(x), device=device).split(size):
                    batch = everything if len(index) == len(x) and everything is x else x[index]
                    optim.zero_grad()
                    loss = _loss(objective, model, guide, batch, structure, result)
                    optim.step()
                    if scheduler:
                        scheduler.step()
                    # a data plate that stands for a subsample scales the loss up to the size of the whole
                    total += loss * (len(batch) / structure.full_size if structure.full_size else 1.0)
                    result.steps += 1
                if not all(bool(torch.isfinite(leaf).all()) for leaf in leaves):
                    raise Diverged(
                        f"{_where(result)}: a parameter is no longer a finite number; lower the learning rate."
                    )
                result.losses.append(total / len(x))
                result.seconds = time.perf_counter() - started
                if on_epoch:
                    on_epoch(result)
    result.seconds = time.perf_counter() - started
    return result


def _refuse_arguments(x: Points, epochs: int, batch_size: int | None, lr: float) -> None:
    # NumPy's arrays have a device too, a string
    if not (hasattr(x, "__getitem__") and isinstance(getattr(x, "device", None), torch.device)):
        raise Refusal(
            f"x is {type(x).__name__}: give a tensor with a row for each point (torch.as_tensor makes one of an array; of "
            "load_data's result it is .train)."
        )
    if not isinstance(epochs, int) or epochs < 0:
        raise Refusal(f"epochs is {epochs}: give a whole number, at least 0.")
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise Refusal(f"batch_size is {batch_size}: give a whole number, at least 1, or None for all points.")
    if not 0 < lr < math.inf:
        raise Refusal(f"lr is {lr}: give a finite number above 0.")


@contextlib.contextmanager
def _training_mode(*programs: Program) -> Iterator[None]:
    """Modules in training mode, and in evaluation mode from then on: what is done with them next is scoring."""
    for module in modules(*programs):
        module.train()
    try:
        yield
    finally:
        for module in modules(*programs):
            module.eval()


def _inspect_all(model: Program, guide: Program, x: Tensor, size: int) -> Structure:
    """`inspect` the first batch, and hold all of x to the support of what it observes."""
    first = x[:size]
    structure = inspect(model, guide, first)
    observed = observed_sites(structure.model_trace)
    for site in observed:
        if site["value"] is first:
            refuse_value(site, x)
    if any(site["value"] is not first for site in observed):  # a function of x: only a run knows its value
        for batch in x[size:].split(size):
            inspect(model, guide, batch)
    return structure


def _loss(objective: ELBO, model: Program, guide: Program, batch: Tensor, structure: Structure, so_far: Fit) -> float:
    """The objective's loss, its gradients left on the parameters. Raises `Diverged` with where it happened: the step always,
    the site and the point of the batch where another draw shows them."""
    try:
        loss = objective.loss_and_grads(model, guide, batch)
    except (torch.OutOfMemoryError, Refusal):
        raise
    except (RuntimeError, ValueError) as error:  # a matrix that is no longer positive definite, a scale of NaN
        raise Diverged(
            f"{_where(so_far)}: {in_one_line(error)} Lower the learning rate or floor the variances."
        ) from error
    if math.isfinite(loss):
        return loss
    try:
        with torch.no_grad():
            draw_weights(model, guide, batch, 1, structure.nesting)
    except Diverged as error:
        raise Diverged(f"{_where(so_far)}: {error} (Points are counted in the batch.)") from None
    raise Diverged(f"{_where(so_far)}: the loss is {loss}; lower the learning rate or floor the variances.")


def _where(so_far: Fit) -> str:
    return f"Training stopped at step {so_far.steps + 1} (epoch {len(so_far.losses) + 1})"


def default_objective(structure: Structure) -> ELBO:
    """The ELBO estimator with the least variance that the pair's sites allow.

    - a latent marked for enumeration: `TraceEnum_ELBO`, its expectation summed;
    - a discrete latent that is not: `TraceGraph_ELBO`, whose score-function terms leave out what cannot depend on it;
    - Gaussian latents with factorised guide and prior, drawn in one order: `TraceMeanField_ELBO`, KL(q‖p) in closed form;
    - any other: `Trace_ELBO`. With an exact guide its pathwise gradient has no variance, which a closed-form KL would spoil.
    """
    latents = structure.latents
    guide = structure.guide_trace.nodes
    enumerated = any(
        latent.summed_out or guide[latent.name]["infer"].get("enumerate") == "parallel" for latent in latents
    )
    if enumerated:
        return TraceEnum_ELBO(max_plate_nesting=structure.nesting)
    if any(latent.discrete for latent in latents):
        return TraceGraph_ELBO()
    pairs = [(structure.model_trace.nodes[latent.name]["fn"], guide[latent.name]["fn"]) for latent in latents]
    order = [site["name"] for site in sites(structure.guide_trace)]  # a guide that runs the other way has another KL
    if order == [latent.name for latent in latents] and all(
        _is_mean_field(prior) and _is_mean_field(posterior) for prior, posterior in pairs
    ):
        return TraceMeanField_ELBO()
    return Trace_ELBO()


def _is_mean_field(fn: Any) -> bool:
    while isinstance(fn, torch.distributions.Independent):
        fn = fn.base_dist
    return isinstance(fn, dist.Normal)
