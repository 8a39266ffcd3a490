"""Operations done in a quicker way are the same numbers but for rounding, and lie in memory as the plain ones do."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from pyrovae.recordings import operations
from pyrovae.recordings.operations import product, recorded, tanh

EPS = torch.finfo(torch.float32).eps
SHAPES = [(300, 200, 100), (100, 300, 200), (4096, 60, 40), (40, 4096, 60), (500, 64, 8), (64, 500, 8), (7, 5, 3)]


@pytest.fixture
def slow_mkl(monkeypatch):
    """As on a processor for which MKL is slow, whatever this one is."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(operations, "mkl_is_slow", lambda: True)


def factor(rows, columns, transposed, generator):
    if transposed:
        return torch.randn(columns, rows, generator=generator).t()
    return torch.randn(rows, columns, generator=generator)


def products(a, b, c):
    return a @ b, torch.addmm(c, a, b), torch.bmm(a[None], b[None])


@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_torchs(slow_mkl, shape, transposed, seed):
    """Each within the rounding of a sum of n products, in the worst order: n units of it in Σ |a||b|."""
    n, inner, m = shape
    generator = torch.Generator().manual_seed(seed)
    a, b = factor(n, inner, transposed[0], generator), factor(inner, m, transposed[1], generator)
    c = torch.randn(m, generator=generator)
    graph, plain = recorded(products, [a, b, c]), make_fx(products)(a, b, c)
    exact = a.double() @ b.double()
    bound = EPS * (inner + 2) * (a.double().abs() @ b.double().abs() + c.double().abs())
    with torch.no_grad():
        for found, same, value in zip(
            graph(a, b, c), plain(a, b, c), (exact, exact + c.double(), exact[None]), strict=True
        ):
            assert ((found.double() - value).abs() <= bound).all()
            assert (found.shape, found.stride(), found.dtype) == (same.shape, same.stride(), same.dtype)


def test_large_products_are_onednns_and_narrow_ones_are_flipped(slow_mkl):
    large = recorded(torch.mm, [torch.randn(300, 200), torch.randn(200, 100)])
    assert targets(large) == [torch.ops.pyrovae.mm.default]
    narrow = recorded(torch.mm, [torch.randn(500, 64), torch.randn(64, 8)])
    aten = torch.ops.aten
    assert targets(narrow) == [aten.t.default, aten.t.default, aten.mm.default, aten.t.default, aten.clone.default]
    small = recorded(torch.mm, [torch.randn(30, 20), torch.randn(20, 30)])
    double = recorded(torch.mm, [torch.randn(300, 200).double(), torch.randn(200, 100).double()])
    assert targets(small) == targets(double) == [aten.mm.default]


@pytest.mark.parametrize("transposed", [(False, False), (True, True)])
def test_a_product_outside_of_a_recording_is_torchs(slow_mkl, monkeypatch, transposed, seed):
    """Bit for bit where a gradient is asked for; else to the rounding of 400 products."""
    generator = torch.Generator().manual_seed(seed)
    a, b = factor(300, 400, transposed[0], generator), factor(400, 100, transposed[1], generator)
    called = []
    onednn = operations.by_onednn
    monkeypatch.setattr(operations, "by_onednn", lambda *factors: called.append(1) or onednn(*factors))
    assert torch.equal(product(a, b), a @ b)
    assert not called
    with torch.no_grad():
        exact = a.double() @ b.double()
        assert ((product(a, b) - exact).abs() <= 400 * EPS * (a.abs().double() @ b.abs().double())).all()
    assert called


def targets(graph):
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("reach", [30.0, 1.0, 0.3, 1e-3, 1e-30])
def test_tanh_is_within_8_units_of_rounding(reach, seed):
    x = (torch.rand(200_000, generator=torch.Generator().manual_seed(seed)) * 2 - 1) * reach
    exact = x.double().tanh()
    assert ((tanh(x) - exact).abs() <= 8 * EPS * exact.abs()).all()
    torch.testing.assert_close(tanh(x.bfloat16()), x.bfloat16().tanh(), rtol=2**-7, atol=0)


def test_tanh_at_the_ends():
    x = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 0.25, -0.25, 88.0, -88.0, 200.0, -200.0])
    torch.testing.assert_close(tanh(x), x.tanh(), rtol=8 * EPS, atol=0, equal_nan=True)


def test_a_recording_takes_the_quicker_tanh_and_leaves_double_precision_alone():
    x = torch.randn(50)
    assert torch.ops.aten.tanh.default not in targets(recorded(torch.tanh, [x]))
    assert targets(recorded(torch.tanh, [x.double()])) == [torch.ops.aten.tanh.default]
    whole = torch.arange(3)
    assert torch.equal(recorded(torch.tanh, [whole])(whole), whole.tanh())


def test_the_gradient_of_a_recorded_tanh_is_torchs():
    def slope(x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(x.tanh().sum(), x)

    x = torch.tensor([-200.0, -1.0, -1e-3, 0.0, 0.1, 3.0, 200.0])
    torch.testing.assert_close(recorded(slope, [x])(x)[0], slope(x)[0], rtol=1e-5, atol=1e-7)
