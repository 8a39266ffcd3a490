"""What comes before the first step: every check of pair, data and settings, and the model's start from the data."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeGuard

import pyro
import torch
from pyro.infer.autoguide import AutoGuide
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import InvalidInputError, user_code_errors
from ..missing import assume_missing
from ..nn import EncoderMLP
from ..objectives import resolve_objective
from ..pair.execution import ModelOrGuide, local_parameters, modules
from ..pair.parameters import check_registered, unconstrained_parameters
from ..pair.sites import observed_sites
from ..pair.structure import Structure, inspect_pair
from ..pair.supports import has_fixed_support
from ..pair.validation import check_value, handles_missing
from ..utils.precision import check_device, check_low_precision, tf32_products
from ..utils.random import fork_rng
from .arguments import TrainingSettings
from .batches import InMemoryBatches, Source, source_of
from .early_stopping import ROWS
from .em import EM
from .flat_parameters import flatten_parameters
from .trainer import Trainer


class StartsFromData(Protocol):
    """A model that begins at values computed from data. `fit` calls `initialise` once, unless `initialised` is true."""

    initialised: Tensor

    def initialise(self, x: Tensor) -> None: ...


def _starts_from_data(model: ModelOrGuide) -> TypeGuard[StartsFromData]:
    """No isinstance: from Python 3.12 on it does not see buffers of a module, and `initialised` is one."""
    return hasattr(model, "initialise") and hasattr(model, "initialised")


def validate(
    model: ModelOrGuide, guide: ModelOrGuide, x: Any, *, structure: Structure | None = None, **settings: Any
) -> Structure:
    """Do all that `fit` does before its first step: check pair, data and settings, and start the model from the data.

    Args:
        model: The model, a function of x.
        guide: The guide, a function of x.
        x: The data, as for `fit`.
        structure: What an earlier call has returned, so that the pair is not inspected again.
        **settings: Arguments of `fit`. Its `init` is not run.

    Returns:
        What `inspect_pair` sees of the pair on a batch, for `fit(structure=...)` and `evaluate(structure=...)`.

    Raises:
        InvalidInputError: `fit` would raise it.
    """
    chosen = TrainingSettings(**{**settings, "init": None})
    with prepared_trainer(model, guide, x, chosen, structure) as trainer:
        return trainer.structure


@contextlib.contextmanager
def prepared_trainer(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Any,
    settings: TrainingSettings,
    structure: Structure | None = None,
    *,
    start: bool = True,
) -> Iterator[Trainer]:
    """A trainer before its first step, or before it resumes; then the model does not `start` from the data.

    Inside, the random state is that of the seed, parameters are views of one vector, and modules are in training mode.
    """
    settings.check()
    device, early_stopping = _device(x, model, guide), settings.early_stopping
    check_device(device)
    if settings.precision == "bf16":
        check_low_precision(torch.bfloat16, device)
    with (
        fork_rng(device, settings.seed),
        local_parameters(model, guide),
        _training_mode(model, guide),
        tf32_products(settings.precision == "tf32"),
        contextlib.ExitStack() as inside,
    ):
        missing = handles_missing(model)
        source = source_of(x, settings.batch_size, settings.seed, device, missing)
        if early_stopping is not None:
            early_stopping.prepare(source, missing)
        inside.enter_context(assume_missing(source.has_missing))
        if any(isinstance(part, _BatchNorm) for module in modules(model, guide) for part in module.modules()):
            source.join_single()  # one point has no variance to be divided by
        whole = isinstance(source, InMemoryBatches) and source.size == len(source.rows)
        if not whole and isinstance(guide, AutoGuide):
            raise InvalidInputError(
                "An autoguide has parameters for every point, so it is fitted on all at once: batch_size=None."
            )
        structure = _inspect_all(model, guide, source, structure)
        if early_stopping is not None and early_stopping.x is not None:
            inspect_pair(model, guide, early_stopping.x[:ROWS], scored=False)
        if start:
            _start(model, guide, source, settings.init)
        objective = settings.objective if settings.objective is not None else resolve_objective(guide, structure)
        settings.check_objective(objective, guide, structure)
        leaves = unconstrained_parameters(source.example[: source.size], guide, model)
        check_registered(leaves, model, guide)
        if not leaves:
            raise InvalidInputError("The pair has no parameters, so there is nothing to fit: evaluate it as it is.")
        settings.check_length(source)
        with pyro.validation_enabled(False), warnings.catch_warnings(), flatten_parameters(leaves) as flat:
            warnings.filterwarnings("ignore", "Encountered (NaN|\\+inf|-inf)")  # locate_nonfinite names the place
            warnings.filterwarnings(
                "ignore", "Detected call of `lr_scheduler.step"
            )  # compiled steps call no optimizer.step
            yield Trainer(model, guide, source, structure, objective, flat, settings)


def _inspect_all(model: ModelOrGuide, guide: ModelOrGuide, source: Source, known: Structure | None) -> Structure:
    """`inspect_pair` on the first batch, unless the pair is `known` on it; all points must lie in the support of what is observed."""
    x, size = source.example, source.size
    first = x[:size]
    structure = known if known is not None and known.is_of(first) else inspect_pair(model, guide, first, scored=False)
    observed = observed_sites(structure.model_trace)
    for site in observed:
        if site["value"] is structure.x:
            check_value(site, x)
    # a function of x, or a support that depends on x: only a run knows them
    if any(site["value"] is not structure.x or not has_fixed_support(site["fn"]) for site in observed):
        for batch in x.split(size)[1:]:
            inspect_pair(model, guide, batch, scored=False)
    return structure


def _start(model: ModelOrGuide, guide: ModelOrGuide, source: Source, init: Any) -> None:
    """The model's own start from the data, once, that of encoders, then the caller's."""
    if _starts_from_data(model) and not bool(model.initialised):
        # What follows is the same, whether the model had to be started or came started.
        with fork_rng(source.device), user_code_errors("model.initialise(x)"):
            model.initialise(source.example)
    for network in (part for module in modules(model, guide) for part in module.modules()):
        if (
            isinstance(network, EncoderMLP)
            and network.centre.shape == source.example.shape[1:]
            and not bool(network.initialised)
        ):
            network.start(source.example)
    if init is not None:
        with fork_rng(source.device), user_code_errors("init(model, x)"):
            _initialiser(init)(model, source.example)


def _initialiser(init: Any) -> Callable[[Any, Tensor], Any]:
    if init == "em":
        return EM()
    if callable(init):
        return init
    raise InvalidInputError(f"init is {init!r:.40}: give a function of (model, x), such as EM(), or 'em' for it.")


def _device(x: Any, model: ModelOrGuide, guide: ModelOrGuide) -> torch.device:
    """Where the data are; of a stream, where the parameters are."""
    if isinstance(getattr(x, "device", None), torch.device):
        return x.device
    devices = [parameter.device for module in modules(model, guide) for parameter in module.parameters()]
    return devices[0] if devices else torch.device("cpu")


@contextlib.contextmanager
def _training_mode(*programs: ModelOrGuide) -> Iterator[None]:
    """Modules in training mode, and in evaluation mode from then on: what is done with them next is scoring."""
    for module in modules(*programs):
        module.train()
    try:
        yield
    finally:
        for module in modules(*programs):
            module.eval()
