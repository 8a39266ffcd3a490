"""What every test has: a seed that can be any of 0 … 99 (`pytest --seed 7`), and a clean Pyro before and after.

Compiling costs most of the suite's time. So a process compiles equal graphs once, and without a pool of compiler processes.
"""

import os
from typing import Any

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # pytest-xdist uses the processors; read at torch's import

import pyro
import pytest
import torch
import torch._inductor
from torch import Tensor, fx

os.environ.pop("COLUMNS", None)  # how wide somebody's terminal is: pytest-xdist passes it on
torch.set_num_threads(1)  # the tensors are small: a second thread mostly waits for the first


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


@pytest.fixture(scope="session", autouse=True)
def _equal_graphs_are_compiled_once() -> Any:
    """Equal in code, in the constants that they hold, and in the layout of their inputs."""
    compiled: dict[str, Any] = {}
    compile_graph = torch._inductor.compile

    def compile_once(graph: fx.GraphModule, inputs: list[Any], options: dict[str, Any] | None = None) -> Any:
        held = [getattr(graph, str(node.target)) for node in graph.graph.nodes if node.op == "get_attr"]
        if not all(isinstance(value, Tensor) for value in held):
            return compile_graph(graph, inputs, options)
        constants = [(_layout(value), _numbers(value)) for value in held]
        key = repr((graph.code, [_layout(value) for value in inputs], constants, torch.get_default_dtype(), options))
        if key not in compiled:
            compiled[key] = compile_graph(graph, inputs, options)
        return compiled[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch._inductor, "compile", compile_once)
        yield


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
