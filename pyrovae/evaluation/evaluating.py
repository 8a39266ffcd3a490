"""evaluate(): log p(x) of a trained pair, point by point."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.columns import few_values, few_values_clause
from ..data.streams import PointStream, point_stream
from ..data.transforms import Transform
from ..errors import InvalidInputError, check_int
from ..estimators.batched_scoring import ScoringOptions, score
from ..estimators.exact import exact_log_likelihood
from ..estimators.mode_sampling import MAX_DRAWS, check_tolerance
from ..estimators.partial_results import PartialResults
from ..missing import any_missing, assume_missing
from ..pair.execution import ModelOrGuide, evaluation_mode, modules
from ..pair.global_latents import GivenGlobals
from ..pair.parameters import collect_parameters, is_per_point, unconstrained_parameters
from ..pair.sites import observed_sites
from ..pair.structure import Latent, Structure, inspect_pair
from ..pair.validation import check_points, check_value, handles_missing
from ..pair.variance_floor import floor_message
from ..posterior.laplace_limits import why_not_laplace
from ..statistics.bound_curve import BoundCurve, curve_sizes
from ..utils.distributed import ProcessGroup
from ..utils.precision import usable
from ..utils.progress import shows_progress
from ..utils.provenance import data_hash, dtype_name, metadata, versions
from ..utils.random import fork_rng
from .base_measure import check_base_measure, log_jacobian_of, log_unit_jacobian_of, measure_name
from .methods import IMPORTANCE_SAMPLING, Limits, MethodResult, exact_result, laplace_result
from .reliability import bound_shortfall
from .result import Evidence

log = logging.getLogger("pyrovae")

GUIDE_DRAWS = 500  # for the ELBO and the K-sample bound, where no number is given
TOLERANCE = 0.05  # nats
COUNTED_POINTS = 2**16  # whose missing entries are counted at once
JUDGED_POINTS, MAX_JUDGED_POINTS = 200, 2000  # by which columns of few values are known


@shows_progress("evaluate", lambda arguments: _num_points(arguments["x"]))
def evaluate(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Any,
    num_samples: int | None = None,
    seed: int = 0,
    *,
    tolerance: float | None = None,
    max_draws: int = MAX_DRAWS,
    max_seconds: float | None = None,
    transform: Transform | None = None,
    on_progress: Callable[[float], None] | None = None,
    progress: bool = True,
    chunk_size: int | None = None,
    partial_file: Path | None = None,
    low_precision: torch.dtype | None = None,
    compile: bool | None = None,
    structure: Structure | None = None,
) -> Evidence:
    """Estimate log p(x_n) for every row of x, with a standard error of at most `tolerance` nats.

    log p̂(x) comes from the first of these methods that the pair has:

    - "exact": the model's own `log_prob`;
    - "laplace": importance sampling about the modes of the posterior, up to 256 latent dimensions;
    - "ais": annealing from there, at points where such draws would be wasted;
    - "importance_sampling": the draws of the guide.

    With `num_samples` K alone, log p̂(x) is the K-sample bound of the literature, whatever its error:
    log (1/K) Σ_k p(x, z_k) / q(z_k|x), z_k ~ q. Otherwise the bound and the ELBO come from 500 draws.

    `max_draws` and `max_seconds` limit the work after the draws of the guide. The message says which points did not
    reach the tolerance, and what they would need. A point for which there is no time has the K-sample bound.

    Memory does not grow with `num_samples`. The noise of a point follows from the seed, the point and the draw. So
    chunks change numbers by rounding only, and so does compilation. Modules are put in evaluation mode and back. The
    random state of torch is left as it was.

    With `low_precision`, weights are computed in that precision first (under torch.autocast). The 224 largest or more
    of each point are computed again in full. The others are corrected by what low precision does to 128 other draws.
    If log p̂ of a point could be off by thousandths of a nat, its batch is computed in full. The same holds, with a
    warning, where low precision is no faster, or where a drawn latent is discrete.

    Args:
        model: The model, a function of x.
        guide: The guide, a function of x.
        x: The points (N, ...), on the device and in the type of the pair's parameters. Points larger than memory are
            a torch `Dataset`, a `DataLoader`, an iterable of batches, or an array of `numpy.load(file, mmap_mode="r")`.
            They are read several times, and must be the same each time. A shuffled loader is read in its Dataset's order.
        num_samples: K, draws of the guide for each point.
        seed: The same seed gives the same numbers.
        tolerance: The largest standard error of a point, in nats. Default: 0.05.
        max_draws: The most draws for one point.
        max_seconds: Stop the search for modes and its draws after so many seconds. The draws of the guide are not counted.
            Points without draws keep the K-sample bound.
        transform: What made x out of the data, for bits per dimension. If it standardised columns, log p(x) is in the
            units before.
        on_progress: Called with the number of points done since its last call, a fraction.
        progress: Whether to show a bar in a terminal or a notebook, if `on_progress` is not given.
        chunk_size: The most draws times points to compute at once. Default: as many as fit into memory.
        partial_file: Keep finished batches in this file, and resume from it if points, samples, seed and parameters
            are the same. It is removed at the end.
        low_precision: `torch.bfloat16`, to compute most weights in that precision.
        compile: Whether to compile the computation. Default: only where it pays off.
        structure: What `inspect_pair` or `validate` has returned, so that the pair is not inspected again.

    Returns:
        An `Evidence`: estimates of each point in nats, with standard errors and a reliability message.

    Raises:
        InvalidInputError: As for `log_weights`, or all weights of a point are zero.
        NonFiniteError: A density is NaN or +∞.

    References:
        Burda, Grosse & Salakhutdinov (2016). Importance weighted autoencoders.

    Example:
        >>> import pyrovae, torch
        >>> x = torch.randn(20, 3)
        >>> model, guide = pyrovae.load("ppca")(3, latent=1)
        >>> evidence = pyrovae.evaluate(model, guide, x)
        >>> evidence.method[0], evidence.reliability
        ('exact', 'reliable')
    """
    if num_samples is None:
        num_samples, tolerance = GUIDE_DRAWS, TOLERANCE if tolerance is None else tolerance
    check_int("num_samples", num_samples, 1)
    if tolerance is not None:
        check_tolerance(tolerance)
    limits = Limits(max_draws, max_seconds)
    if chunk_size is not None:
        check_int("chunk_size", chunk_size, 1, why=", or None")
    if transform is not None and not isinstance(transform, Transform):
        raise InvalidInputError(
            f"transform is {transform!r:.40}: give a Transform object, such as load_data's .transform."
        )
    if low_precision not in (None, torch.bfloat16, torch.float16):
        raise InvalidInputError(
            f"low_precision is {low_precision!r:.40}: give torch.bfloat16 or torch.float16, or None for full precision."
        )
    x = _readable(x, model, guide)
    check_points(x, handles_missing(model))
    started = time.perf_counter()
    with (
        evaluation_mode(model, guide),
        torch.no_grad(),
        fork_rng(x.device, seed),
        assume_missing(_any_missing(x)),
    ):
        per_point = is_per_point(guide, x)
        if per_point and isinstance(x, PointStream):
            raise InvalidInputError(
                "The guide has parameters for each point, so it is evaluated on all of them at once: give a tensor."
            )
        first = x if per_point else x[:1024]
        with collect_parameters(model, guide) as used:
            structure = _inspect(model, guide, first, None if per_point else structure)
        low_precision = _screen(low_precision, structure, x)
        options = ScoringOptions(chunk_size, low_precision, compile)
        if transform is not None:
            check_base_measure(structure, transform)
        message = ""
        if tolerance is not None and not hasattr(model, "log_prob"):
            message = why_not_laplace(model, guide, x)
            if on_progress is not None and not message:
                on_progress = _halved(on_progress)

        def identity() -> tuple[object, ...]:
            given = (str(x.dtype), x.device.type, num_samples, seed, str(low_precision), tolerance, max_draws)
            return (data_hash(x), *given, *_state_hashes(model, guide, used))

        partial = PartialResults(_own_file(partial_file), identity)
        partial_modes = PartialResults(_own_file(partial_file, "modes"), identity)
        with partial.save_on_interrupt():
            scored = score(model, guide, x, num_samples, seed, structure, per_point, options, partial, on_progress)
        exact = exact_log_likelihood(model, x)
        jacobian = log_jacobian_of(x, transform, structure)
        result = MethodResult(
            (IMPORTANCE_SAMPLING,) * len(x),
            scored["log_likelihood"],
            scored["log_likelihood_se"],
            torch.full((len(x),), num_samples),
            bound_shortfall(num_samples, scored["pareto_k"], scored["ess"], structure.deterministic_guide),
            message,
        )
        if tolerance is not None and exact is not None:
            result = exact_result(exact)
        elif tolerance is not None and not message:
            partial.save()
            with partial_modes.save_on_interrupt():
                result = laplace_result(model, guide, x, tolerance, seed, limits, result, partial_modes, on_progress)
        partial.remove()
        partial_modes.remove()
    if structure.deterministic_guide:
        scored |= {name: torch.full_like(scored[name], math.nan) for name in ("gap_se", "ess", "pareto_k")}
    bounds = BoundCurve(curve_sizes(num_samples), scored.pop("bound"), scored.pop("bound_se"))
    independent = torch.tensor(
        [method != IMPORTANCE_SAMPLING for method in result.method]
    )  # draws for ELBO and log p̂(x)
    gap_se = (result.log_likelihood_se.square() + scored["elbo_se"].square()).sqrt()
    scored["gap_se"] = torch.where(independent, gap_se, scored["gap_se"])
    unit_jacobian = log_unit_jacobian_of(transform, x, structure.observed)
    if bool(unit_jacobian.any()):
        result = replace(result, log_likelihood=result.log_likelihood + unit_jacobian)
        bounds = bounds._replace(value=bounds.value + unit_jacobian)
        exact = None if exact is None else exact + unit_jacobian
        scored |= {name: scored[name] + unit_jacobian for name in ("elbo", "log_likelihood_jackknife")}
    scored |= {
        name: getattr(result, name) for name in ("log_likelihood", "log_likelihood_se", "num_draws", "shortfall")
    }
    return Evidence(
        **scored,
        method=result.method,
        method_message=result.message,
        tolerance=tolerance,
        bound_curve=bounds,
        exact_log_likelihood=exact,
        log_jacobian=jacobian,
        num_samples=num_samples,
        dim=structure.observed,
        latent=_latent_text(structure.latents),
        num_missing=sum(int(points.isnan().sum()) for points in x.split(COUNTED_POINTS)),
        parameters=sum(p.numel() for p in used),
        base_measure=structure.base_measure,
        data_hash=data_hash(x),
        seconds=time.perf_counter() - started,
        deterministic_guide=structure.deterministic_guide,
        metadata=metadata(
            x,
            num_samples=num_samples,
            tolerance=tolerance,
            seed=seed,
            points=len(x),
            base_measure=measure_name(structure, transform),
            variance_floor=floor_message(model),
            dtype=dtype_name(x.dtype)
            if low_precision is None
            else f"{dtype_name(x.dtype)}, {dtype_name(low_precision)} screen",
            **({"few_values": few} if (few := _few_values(x, structure)) else {}),
            **({"conditional_on": list(model.conditional_on)} if isinstance(model, GivenGlobals) else {}),
        ),
    )


def _readable(x: Any, model: ModelOrGuide, guide: ModelOrGuide) -> Any:
    """A tensor as it is, and points that are not all in memory as a `PointStream`."""
    if isinstance(x, Tensor | PointStream):
        return x
    parameter = next((p for module in modules(model, guide) for p in module.parameters()), torch.empty(0))
    if isinstance(x, np.ndarray) and not isinstance(
        x, np.memmap
    ):  # in memory: what type it is to have is for the caller to say
        return x
    stream = point_stream(x, parameter.device, parameter.dtype)
    return x if stream is None else stream


def _few_values(x: Any, structure: Structure) -> str:
    """A sentence where columns of x take few values, so that a density has no maximum there; else ""."""
    if structure.base_measure == "counting" or x.dim() != 2 or len(x) < JUDGED_POINTS:
        return ""
    return few_values_clause(few_values(x[:MAX_JUDGED_POINTS]), ())


def _num_points(x: Any) -> float:
    try:
        return len(getattr(x, "dataset", x))
    except TypeError:
        return math.inf


def _screen(low_precision: torch.dtype | None, structure: Structure, x: Tensor) -> torch.dtype | None:
    """The type to screen weights in, or None where that is no use, with a warning that says why."""
    drawn = next((latent for latent in structure.latents if latent.discrete and not latent.summed_out), None)
    if low_precision is not None and drawn is not None:
        # its error goes by the value of the latent, as the weight does, so that the controls' mean error is not that of the sum
        log.warning("Latent '%s' is discrete, so all weights are computed in %s.", drawn.name, dtype_name(x.dtype))
        return None
    return usable(low_precision, x)


def _any_missing(x: Tensor | PointStream) -> bool:
    return any(any_missing(block) for _, block in x.blocks()) if isinstance(x, PointStream) else any_missing(x)


def _halved(on_progress: Callable[[float], None]) -> Callable[[float], None]:
    """The guide's draws are half of the work, those about the modes the other."""
    return lambda points: on_progress(points / 2)


def _inspect(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, known: Structure | None) -> Structure:
    """`inspect_pair`; of a pair that is `known`, only a run, which reads its parameters, and the check of what it observes."""
    if known is None or known.no_density or not known.covers(x):
        return inspect_pair(model, guide, x)
    unconstrained_parameters(x, guide, model)
    for site in observed_sites(known.model_trace):
        check_value(site, x)
    return known


def _own_file(path: Path | None, part: str = "") -> Path | None:
    """The file of this process, where several share the points, and of a part of the work."""
    if path is None:
        return None
    ranks = ProcessGroup()
    process = f"{ranks.rank}-of-{ranks.count}" if ranks.count > 1 else ""
    return path.with_name(".".join(filter(None, (path.name, part, process))))


def _state_hashes(model: ModelOrGuide, guide: ModelOrGuide, used: list[Tensor]) -> list[str]:
    """What the pair computes with, and what computes it."""
    networks = modules(model, guide)
    buffers = [buffer for network in networks for buffer in network.buffers()]
    return [*map(data_hash, (*used, *buffers)), *map(str, networks), *versions().values()]


def _latent_text(latents: Iterable[Latent]) -> str:
    """R^16, R^8; of many alike, 10 × R^64."""
    runs = [(name, len(list(run))) for name, run in itertools.groupby(map(str, latents))]
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in runs) or "none"
