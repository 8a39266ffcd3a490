"""Operations done in a quicker way are the same numbers but for rounding, and lie in memory as the plain ones do."""

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from pyrovae.recordings import operations
from pyrovae.recordings.compiling import compiled, compiler
from pyrovae.recordings.operations import by_onednn, exp_of_minus, product, recorded, tanh

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
    assert targets(large) == [by_onednn]
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


@pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler to compile with")
@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)])
def test_compiled_products_are_those_of_the_graph(slow_mkl, transposed, seed):
    """By a call of oneDNN's own, with the same factors: bit for bit, but where a sum is joined to what comes next."""
    generator = torch.Generator().manual_seed(seed)
    a, b = factor(300, 200, transposed[0], generator), factor(200, 100, transposed[1], generator)
    c = torch.randn(100, generator=generator)
    with torch.no_grad():
        code, graph = compiled(products, [a, b, c]), recorded(products, [a, b, c])
        for found, same in zip(code(a, b, c), graph(a, b, c), strict=True):
            torch.testing.assert_close(found, same, rtol=0, atol=0)


def layer(x, weight, bias):
    return torch.tanh(nn.functional.linear(x, weight, bias))


@pytest.mark.parametrize("rows", [(300,), (50, 6)])
def test_a_layers_tanh_is_taken_with_its_product(slow_mkl, rows, seed):
    generator = torch.Generator().manual_seed(seed)
    weight, bias = torch.randn(100, 200, generator=generator) / 14, torch.randn(100, generator=generator)
    x = torch.randn(*rows, 200, generator=generator)
    graph = recorded(layer, [x, weight, bias])
    assert by_onednn in targets(graph)
    assert not {torch.ops.aten.exp.default, torch.ops.aten.tanh.default} & set(targets(graph))
    with torch.no_grad():
        exact = layer(x.double(), weight.double(), bias.double())
        sizes = x.double().abs() @ weight.double().abs().mT + bias.double().abs()
        assert ((graph(x, weight, bias) - exact).abs() <= EPS * (202 * sizes + 8)).all()


def test_a_product_that_others_read_too_keeps_its_tanh_apart(slow_mkl):
    def both(x, weight, bias):
        y = nn.functional.linear(x, weight, bias)
        return y, torch.tanh(y)

    def matrix(x, weight, bias):
        return torch.tanh(torch.addmm(bias, x, weight.t()))

    x, weight = torch.randn(300, 200), torch.randn(100, 200) / 14
    for function, bias in ((both, torch.randn(100)), (matrix, torch.randn(300, 100))):
        graph = recorded(function, [x, weight, bias])
        assert by_onednn in targets(graph)
        assert torch.ops.aten.exp.default in targets(graph)
        with torch.no_grad():
            torch.testing.assert_close(graph(x, weight, bias), function(x, weight, bias), rtol=1e-4, atol=1e-4)


def test_layers_in_half_precision_are_torchs_to_its_rounding(slow_mkl, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(shape, generator=generator) / 14 for shape in ((300, 200), (100, 200), (100,))]
    halves = [value.bfloat16() for value in inputs]
    graph = recorded(layer, halves)
    assert by_onednn in targets(graph)
    with torch.no_grad():
        exact = layer(*(value.double() for value in halves))
        assert ((graph(*halves) - exact).abs() <= 2**-8 * (exact.abs() + 2**-8)).all()


def test_the_rough_exponential_is_within_7_millionths():
    y = torch.cat([torch.linspace(0, 20, 1_000_001), torch.tensor([100.0, torch.inf])])
    assert ((exp_of_minus(y) - (-y.double()).exp()).abs() <= 7e-6).all()
    assert exp_of_minus(torch.tensor(torch.nan)).isnan()


def test_only_what_is_below_zero_and_meant_to_be_rough_is():
    def exponentials(x):
        return torch.exp(-x.abs()), torch.exp(-x), torch.exp(-x.abs().double())

    x = torch.randn(50)
    exp = torch.ops.aten.exp.default
    assert targets(recorded(exponentials, [x])).count(exp) == 3
    graph = recorded(exponentials, [x], rough=True)
    assert targets(graph).count(exp) == 2
    for found, exact, bound in zip(graph(x), exponentials(x), (7e-6, 0, 0), strict=True):
        torch.testing.assert_close(found, exact, rtol=0, atol=bound)


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
