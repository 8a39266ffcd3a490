"""Log-weights of a block as a compiled graph of tensor operations: what Pyro does in Python is done once."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ..compilation.compiling import compile_graph
from ..compilation.constants import lift_constants
from ..compilation.graph import record_graph
from ..pair.execution import ModelOrGuide
from ..pair.importance_weights import guide_density, model_density, run_model, within_support
from ..pair.sites import density_sites, points_axis
from ..utils.precision import autocast_to
from .guide_draws import draws_axis, narrowed, with_values

CACHE_ELEMENTS = 3 * 2**19  # of x at once on a CPU: its products outrun memory, and its caches hold so much

LogDensities = tuple[Tensor, Tensor]  # log w and log q, (draws, N)


class CompiledLogWeights:
    """log w of a block of one shape, (draws, N), by graphs that were recorded from a run of the pair on such a block.

    One graph is of the guide, where log q is not given. Another is of the model, for as many of the draws as a cache
    holds.

    Parameters are read at every call. What a model computes in Python, which the recorder does not see, is frozen. So
    `CompiledScorer` first compares a graph with Pyro's own run, on other draws and other points.
    """

    def __init__(
        self,
        model: ModelOrGuide,
        x: Tensor,
        q: poutine.Trace,
        log_q: Tensor | None,
        draws: int,
        max_plate_nesting: int,
        dtype: torch.dtype | None,
    ):
        self.points, self.draws, self.max_plate_nesting = len(x), draws, max_plate_nesting
        self.shapes = _shapes([x, *_values(q)])
        self.guide_shapes = _shapes(_guide_inputs(q))
        self.has_log_q = log_q is not None
        most = max(1, CACHE_ELEMENTS // x.numel()) if x.device.type == "cpu" else draws
        self.piece_draws = -(-draws // -(-draws // most))  # of one size, as nearly as can be
        names, first = [site["name"] for site in density_sites(q)], narrowed(q, 0, self.piece_draws, max_plate_nesting)

        def density(*inputs: Tensor) -> Tensor:
            run = with_values(q, dict(zip(names, inputs, strict=False)))
            with _swapped(run, inputs[len(names) :]):
                return guide_density(run, x, draws, max_plate_nesting, check=False)

        def weights(x: Tensor, *inputs: Tensor) -> tuple[Tensor, Tensor]:
            *values, log_q = inputs
            with autocast_to(x.device, dtype):
                p = run_model(
                    model,
                    x,
                    with_values(first, dict(zip(names, values, strict=True))),
                    self.piece_draws,
                    max_plate_nesting,
                )
                log_p = model_density(p, len(x), self.piece_draws, max_plate_nesting, check=False)
            log_w = (log_p - log_q).to(x.dtype)
            return log_w, within_support(p) & torch.isfinite(log_q).all() & (log_w < torch.inf).all()

        self.density = _compiled(density, _guide_inputs(q)) if log_q is None and names else None
        inputs = self._inputs(x, q, self._log_q(x, q) if log_q is None else log_q)
        self.weights = _compiled(weights, self._piece(inputs, 0))

    def fits(self, x: Tensor, q: poutine.Trace, log_q: Tensor | None, draws: int) -> bool:
        same = (draws, log_q is not None) == (self.draws, self.has_log_q)
        return same and _shapes([x, *_values(q)]) == self.shapes

    def __call__(self, x: Tensor, q: poutine.Trace, log_q: Tensor | None) -> LogDensities | None:
        """Compute log w of as many points as it was made for, or somewhat fewer.

        Return None where a block has another shape, a value lies outside its support, or a weight is NaN. Pyro's own
        run says which.
        """
        log_q = self._log_q(x, q) if log_q is None else log_q
        inputs = self._inputs(x, q, log_q)
        if _shapes([value for value, _ in inputs[:-1]]) != self.shapes:
            return None
        parts, sound = [], []
        for start in range(0, self.draws, self.piece_draws):
            begin = min(start, self.draws - self.piece_draws)  # the last piece has some draws of the one before
            log_w, every = self.weights(*self._piece(inputs, begin))
            parts.append(log_w[start - begin :, : len(x)])
            sound.append(every)
        return (torch.cat(parts), log_q) if bool(torch.stack(sound).all()) else None

    def _log_q(self, x: Tensor, q: poutine.Trace) -> Tensor:
        inputs = _guide_inputs(q)
        if self.density is not None and _shapes(inputs) == self.guide_shapes:
            return self.density(*inputs)
        return guide_density(q, x, self.draws, self.max_plate_nesting)

    def _inputs(self, x: Tensor, q: poutine.Trace, log_q: Tensor) -> list[tuple[Tensor, int | None]]:
        """Return x, the latents and log q, with the axis of each along which the draws are.

        Copies of the first point fill up where a few points are missing.
        """
        latents = [
            (site["value"], draws_axis(site, self.max_plate_nesting), points_axis(site)) for site in density_sites(q)
        ]
        missing = self.points - len(x)
        few = 0 < missing <= 2 * len(x)  # for more, Pyro's own run of those that there are takes no longer
        return [
            (torch.cat([value, *[value.narrow(points, 0, 1)] * missing], points) if few else value, draws)
            for value, draws, points in ((x, None, 0), *latents, (log_q.contiguous(), 0, 1))
        ]

    def _piece(self, inputs: list[tuple[Tensor, int | None]], start: int) -> list[Tensor]:
        """Of as many draws as a cache holds, from the one at `start`."""
        return [value if axis is None else value.narrow(axis, start, self.piece_draws) for value, axis in inputs]


def _compiled(function: Callable[..., Any], inputs: Sequence[Tensor]) -> Callable[..., Any]:
    """`function`, compiled; tensors that it knows besides its inputs are read anew at every call."""
    graph = record_graph(function, inputs)
    constants = lift_constants(graph)
    compiled = compile_graph(graph, [*inputs, *constants])
    return lambda *inputs: compiled(*inputs, *constants)


def _shapes(tensors: list[Tensor]) -> list[Any]:
    return [(value.shape, value.stride(), value.dtype, value.device) for value in tensors]


def _values(q: poutine.Trace) -> list[Tensor]:
    return [site["value"] for site in density_sites(q)]


def _guide_inputs(q: poutine.Trace) -> list[Tensor]:
    """What a guide's density is computed from."""
    return [*_values(q), *(tensor for _, _, tensor in _parameters(q))]


def _parameters(q: poutine.Trace) -> list[tuple[dict[str, Any], str, Tensor]]:
    """The tensors that the guide's distributions are made of, each with the dictionary and the key where it is."""
    parameters: list[tuple[dict[str, Any], str, Tensor]] = []
    seen: set[int] = set()

    def look(fn: Any) -> None:
        if id(fn) in seen:
            return
        seen.add(id(fn))
        for key, value in vars(fn).items():
            if isinstance(value, Tensor):
                parameters.append((vars(fn), key, value))
            elif isinstance(value, torch.distributions.Distribution):
                look(value)

    for site in density_sites(q):
        look(site["fn"])
    return parameters


@contextlib.contextmanager
def _swapped(q: poutine.Trace, tensors: tuple[Tensor, ...]) -> Iterator[None]:
    """The guide's distributions made of these tensors instead."""
    originals = _parameters(q)
    for (attributes, key, _), tensor in zip(originals, tensors, strict=True):
        attributes[key] = tensor
    try:
        yield
    finally:
        for attributes, key, tensor in originals:
            attributes[key] = tensor
