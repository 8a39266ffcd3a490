"""What every test has: a seed that can be any of 0 … 99 (`pytest --seed 7`), and a clean Pyro before and after.

Compiling costs seconds a graph. So only tests marked `compiled` compile, equal graphs once, and without a pool of compiler
processes. In all others a recording of tensor operations runs as it is.
"""

import gc
import os
from pathlib import Path
from typing import Any

# pytest-xdist uses the processors: in each process, and in those that a test starts, one thread. Read at torch's import.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyro
import pytest
import torch
import torch._inductor
from torch import Tensor, fx

import pyrovae

os.environ.pop("COLUMNS", None)  # how wide somebody's terminal is: pytest-xdist passes it on
# The processes that a test starts import the package that is tested, and no other that may be installed.
_here = str(Path(pyrovae.__file__).parents[1])
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_here, os.environ.get("PYTHONPATH"))))


gc.freeze()  # what is imported stays; and collecting its millions of objects again and again took an eighth of the time
gc.set_threshold(100_000, 20, 100)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=0, help="seed of all tests, any of 0 … 99")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process a run of neighbouring tests, which share fixtures and compiled graphs."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


def _layout(value: Any) -> Any:
    """What code is compiled for: all of a tensor but its numbers."""
    return (value.shape, value.stride(), value.dtype, value.device) if isinstance(value, Tensor) else value


def _numbers(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


class _CompiledOnce:
    """In place of torch's compiler. A recording runs as it is, one operation after another, unless a test is marked `compiled`.

    For those, graphs are compiled once that are equal in code, in the constants that they hold, and in the layout of inputs.
    """

    def __init__(self, compile_graph: Any):
        self.compile_graph = compile_graph
        self.wanted = False
        self.known: dict[str, Any] = {}

    def __call__(self, graph: fx.GraphModule, inputs: list[Any], options: dict[str, Any] | None = None) -> Any:
        if not self.wanted:
            return graph
        held = [getattr(graph, str(node.target)) for node in graph.graph.nodes if node.op == "get_attr"]
        if not all(isinstance(value, Tensor) for value in held):
            return self.compile_graph(graph, inputs, options)
        constants = [(_layout(value), _numbers(value)) for value in held]
        key = repr((graph.code, [_layout(value) for value in inputs], constants, torch.get_default_dtype(), options))
        if key not in self.known:
            self.known[key] = self.compile_graph(graph, inputs, options)
        return self.known[key]


_compiler = _CompiledOnce(torch._inductor.compile)
torch._inductor.compile = _compiler


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _compiler.wanted = item.get_closest_marker("compiled") is not None


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--seed")


@pytest.fixture(autouse=True)
def _clean_pyro(seed: int):
    pyro.clear_param_store()
    torch.manual_seed(seed)
    yield
    assert not pyro.settings.get("module_local_params"), "a test left Pyro's settings changed"
    pyro.clear_param_store()
