"""Compute log-weights with a compiled graph when that pays off and its output matches the eager run."""

import contextlib
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..pair.execution import ModelOrGuide
from .compiled_log_weights import CompiledLogWeights, LogDensities

CHECKED_DRAWS = 4  # of a block, on which a graph is compared with Pyro's run
MIN_COMPILE_FLOPS = 1e12  # floating-point operations, seconds of a few cores: compiling takes as long
MAX_CHECKED_BATCHES = 2


class DrawBlock(NamedTuple):
    """Draws of a batch of points, to be scored: `log_q` where it is known, and the index of the first point among all."""

    x: Tensor
    q: poutine.Trace
    log_q: Tensor | None
    draws: int
    first: int


class CompiledScorer:
    """A compiled graph where the work is worth one, or Pyro's eager run: for the blocks of one evaluation, `num_blocks` of them.

    `compile` is whether to compile, None: where a block's operations times `num_blocks` are worth it. A graph is
    compared with Pyro's run on a block that it was not made from, and again on the first block of other points. They
    must agree to a thousand units of rounding (of bfloat16, to some hundredths). Pairs that cannot be recorded,
    because they read numbers into Python, and machines without a compiler do without.
    """

    def __init__(
        self,
        model: ModelOrGuide,
        max_plate_nesting: int,
        dtype: torch.dtype | None,
        compile: bool | None,
        num_blocks: int,
    ):
        self.model, self.max_plate_nesting, self.dtype = model, max_plate_nesting, dtype
        self.compile, self.num_blocks = compile, num_blocks
        self.graph: CompiledLogWeights | None = None
        self.is_compiled = False  # whether the graph scored the last block
        self.is_new = False  # whether this scorer made the graph
        self.checked: list[int] = []  # the batches, by their first points, on which it was compared with Pyro's run

    def __call__(self, block: DrawBlock, eager: Callable[[int], LogDensities]) -> LogDensities:
        """`eager` is Pyro's own run, of as many of the block's draws as it is given."""
        expected = None
        if self.compile is None:
            flops, expected = count_flops(lambda: eager(block.draws))
            self.compile = flops * self.num_blocks > MIN_COMPILE_FLOPS
        compiled = self._by_graph(block, eager, expected) if self.compile else None
        self.is_compiled = compiled is not None
        if compiled is not None:  # of the first block too, so that all have low precision's errors of one kind
            return compiled
        return eager(block.draws) if expected is None else expected

    def _by_graph(
        self, block: DrawBlock, eager: Callable[[int], LogDensities], expected: LogDensities | None
    ) -> LogDensities | None:
        """None where no graph does what Pyro's run does; `expected` is that run, where there was one."""
        if self.graph is None:
            self.graph = _graph_of(self.model, block, self.dtype)
        if self.graph is not None:
            compiled = self.graph(block.x, block.q, block.log_q)
            if compiled is None or block.first in self.checked or len(self.checked) == MAX_CHECKED_BATCHES:
                return compiled
            self.checked.append(block.first)
            if match(compiled, eager(min(CHECKED_DRAWS, block.draws)), self.dtype):
                return compiled
            self.graph, self.checked = None, []
            _forget(self.model)
            if self.is_new:
                self.compile = False
                return None
        compiled = self._compile(block, eager(block.draws) if expected is None else expected)
        self.compile = self.is_new = compiled is not None
        return compiled

    def _compile(self, block: DrawBlock, expected: LogDensities) -> LogDensities | None:
        """The block's weights by a new graph; None where there can be none, or they are not Pyro's."""
        try:
            graph = CompiledLogWeights(
                self.model, block.x, block.q, block.log_q, block.draws, self.max_plate_nesting, self.dtype
            )
            compiled = graph(block.x, block.q, block.log_q)
        except torch.OutOfMemoryError:
            raise
        except Exception:
            return None
        if compiled is None or not match(compiled, expected, self.dtype):
            return None
        self.graph = graph
        with contextlib.suppress(TypeError):  # not everything that can be called can be referred to weakly
            _graphs.setdefault(self.model, []).append((self.dtype, graph))
        return compiled


def count_flops(run: Callable[[], Any]) -> tuple[int, Any]:
    """The floating-point operations of `run()`, and what it returns."""
    try:
        with _Flops() as counter:
            result = run()
        return counter.total, result
    except NotImplementedError:  # an operator with functions as arguments, such as torch.cond
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as torch_counter:
            result = run()
        return torch_counter.get_total_flops(), result


class _Flops(TorchDispatchMode):
    """Counts operations by torch's own formulas. `FlopCounterMode` does, too, and imports the compiler, which takes 2 seconds."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # what makes a mode import the compiler
        return False

    def __init__(self) -> None:
        super().__init__()
        from torch.utils.flop_counter import flop_registry  # imports triton

        self.total, self.formulas = 0, flop_registry

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = self.formulas.get(func.overloadpacket)
        if formula is None:
            with self:  # in inference mode a linear layer is one operation, made of others
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=result)
        return result


def match(compiled: LogDensities, eager: LogDensities, dtype: torch.dtype | None) -> bool:
    """Whether a block's first weights are Pyro's; log q, which low precision leaves alone, to rounding of its own type."""
    dtypes = (dtype, None)
    return all(_agree(one[: len(other)], other, each) for one, other, each in zip(compiled, eager, dtypes, strict=True))


def _agree(one: Tensor, other: Tensor, dtype: torch.dtype | None) -> bool:
    units = 1024 * torch.finfo(other.dtype).eps if dtype is None else 8 * torch.finfo(dtype).eps
    zero = other == -torch.inf
    close = (one - other).abs() <= units * (1 + other[~zero].abs().max()) if not bool(zero.all()) else zero
    return bool((close | (zero & (one == -torch.inf))).all())


# A model's graphs live as long as it does: it may be scored many times, while it trains for example. Where the model has
# changed in Python meanwhile, the first block shows it, and the graph is forgotten.
_graphs: weakref.WeakKeyDictionary[Any, list[tuple[torch.dtype | None, CompiledLogWeights]]] = (
    weakref.WeakKeyDictionary()
)


def _graph_of(model: ModelOrGuide, block: DrawBlock, dtype: torch.dtype | None) -> CompiledLogWeights | None:
    try:
        graphs = _graphs.get(model, [])
    except TypeError:
        return None
    x, q, log_q, draws, _ = block
    return next((graph for each, graph in graphs if each == dtype and graph.fits(x, q, log_q, draws)), None)


def _forget(model: ModelOrGuide) -> None:
    with contextlib.suppress(TypeError):
        _graphs.pop(model, None)
