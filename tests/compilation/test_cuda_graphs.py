"""What is captured as a CUDA graph, without a GPU: a stand-in for torch's graphs repeats the captured operations in their memory."""

import contextlib
import types

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

import pyrovae
from pyrovae.compilation import compiling
from pyrovae.compilation.compiling import CompilationError, CudaGraph
from pyrovae.pair.execution import modules


class Graph:
    """Has torch.cuda.CUDAGraph's semantics: a replay reads the captured tensors and writes into the captured results."""

    def __init__(self):
        self.operations = []

    def replay(self):
        for func, args, kwargs, before in self.operations:
            after = func(*args, **kwargs)
            for old, new in zip(tree_flatten(before)[0], tree_flatten(after)[0], strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Capture(TorchDispatchMode):
    def __init__(self, graph):
        super().__init__()
        self.graph, self.random = graph, torch.get_rng_state()

    def __exit__(self, *error):
        torch.set_rng_state(self.random)  # a capture draws nothing
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.graph.operations.append((func, args, kwargs or {}, result))
        return result


class Stream:
    def wait_stream(self, other):
        pass


@pytest.fixture
def guarded(monkeypatch):
    """The devices that streams and graphs were made for."""
    devices = []

    @contextlib.contextmanager
    def device(chosen):
        devices.append(chosen)
        yield

    stand_ins = {
        "Stream": Stream, "current_stream": Stream, "stream": lambda _: contextlib.nullcontext(), "device": device,
        "CUDAGraph": Graph, "graph": Capture,
    }  # fmt: skip
    for name, value in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return devices


def test_a_graph_repeats_its_function_and_being_made_changes_nothing(guarded):
    def function(weight, x):
        noise = torch.randn_like(x)
        weight.add_(x.sum())
        return weight * 2, (x + noise).sum()

    weight, x = torch.ones(3), torch.arange(4.0)
    state = torch.get_rng_state()
    graph = CudaGraph(function, [weight, x], 1)
    assert torch.equal(weight, torch.ones(3))
    assert torch.equal(torch.get_rng_state(), state)
    own, outputs = torch.ones(3), []
    for batch in (x, 2 * x):
        first, total = graph(batch)
        outputs.append((first, total))
        assert torch.equal(weight, torch.ones(3) + (6.0 if batch is x else 18.0))
    torch.set_rng_state(state)
    for batch, (first, total) in zip((x, 2 * x), outputs, strict=True):  # results of one call outlive the next
        expected, expected_total = function(own, batch)
        assert torch.equal(first, expected)
        assert torch.equal(total, expected_total)
    assert guarded == [x.device] * 3


def test_what_cannot_be_captured_is_replayed_and_changes_nothing(guarded, monkeypatch):
    class Refusing(Capture):
        def __exit__(self, *error):
            super().__exit__(*error)
            raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", Refusing)
    weight = torch.ones(3)
    on_gpu = types.SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(compiling, "CudaGraph", lambda function, inputs, x: CudaGraph(function, [weight], 0))
    with pytest.raises(CompilationError, match="captured as a CUDA graph: RuntimeError: operation not permitted"):
        compiling.bind_inputs(lambda weight: (weight.add_(1),), [on_gpu], 0)
    assert torch.equal(weight, torch.ones(3))


@pytest.mark.parametrize("name", ["vae", "ppca"])
def test_training_by_such_graphs_is_eager_training(name, guarded, monkeypatch):
    monkeypatch.setattr("pyrovae.training.step.bind_inputs", CudaGraph)
    losses = []
    for compile in (False, True):
        torch.manual_seed(0)
        model, guide = pyrovae.load(name)(5, latent=2)
        for half in modules(model, guide):
            half.double()
        x = torch.rand(40, 5, generator=torch.Generator().manual_seed(1)).double()
        result = pyrovae.fit(
            model, guide, x, epochs=3, batch_size=16, max_grad_norm=5.0, ema_decay=0.9, compile=compile, progress=False
        )
        losses.append(result.losses)
    assert guarded
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)
