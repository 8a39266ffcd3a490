"""Recorded operations replayed one after another: the same numbers, the same draws, and fewer operations."""

import weakref

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pyrovae.compilation.graph import HostReadError, record_graph
from pyrovae.compilation.replaying import replay_graph
from pyrovae.compilation.simplification import simplify


class Count(TorchDispatchMode):
    """Names of the operations that run inside, in their order."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def replayed(function, *inputs):
    """`function` of its first input, recorded, simplified and written anew."""
    return replay_graph(simplify(record_graph(function, inputs)), inputs, 0)


def outputs(function, *inputs):
    torch.manual_seed(3)
    with torch.no_grad(), Count() as count:
        result = function(*inputs)
    return result, count.names


def draws(x, w):
    unread = torch.rand(4)  # noqa: F841  (what is drawn and not read moves the generator all the same)
    a = torch.randn_like(x)
    b = torch.randn_like(x)  # equal to a in all but its numbers
    return a + 2 * b, torch.randn(3), (x @ w.t(), torch.poisson(x.square()))


def fills(x, w):
    kept = torch.nn.functional.dropout(x @ w.t(), 0.4)
    return kept, draws(x, w), torch.empty_like(x).normal_(), torch.empty_like(x).normal_()


def writes(x, w):
    """An operation that writes into what depends on no input."""
    square = torch.zeros(3, 3)
    row, column = torch.tril_indices(3, 3, offset=-1)
    square[row, column] += x.sum(0)
    square += x[:3]
    w = w.clone()
    w += 1
    return square + 0.0, w, x.mul(1.0)


@pytest.mark.parametrize("function", [draws, fills, writes])
def test_a_replay_is_the_function_at_every_call(function):
    x, w = torch.randn(4, 3), torch.randn(5, 3)
    replay = replayed(function, x, w)
    for _ in range(2):
        x = torch.randn(4, 3)
        w.mul_(1.1)  # inputs are read at each call, also through views that were made before
        (found, _), (expected, _) = outputs(replay, x), outputs(function, x, w)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_what_changes_nothing_is_left_out():
    def function(x, w):
        same = ((x.detach().clone() + 0) * torch.ones_like(x) - torch.zeros(4, 3)).view(4, 3).expand(4, 3).pow(1) / 1
        constant = torch.log(torch.expm1(torch.ones(3)))
        return same @ w.t().t().t(), (same @ w.t()).sum() + constant

    x, w = torch.randn(4, 3), torch.randn(5, 3)
    replay = replayed(function, x, w)
    found, names = outputs(replay, x)
    expected, before = outputs(function, x, w)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert names == ["aten::mm", "aten::sum", "aten::add"]
    assert len(before) > 20


def test_what_no_other_operation_needs_is_freed():
    """Of 64 results in a row, two are held at a time."""

    def function(x):
        for _ in range(64):
            x = x.sin()
        return x

    x = torch.zeros(4, 3)
    replay = replayed(function, x)
    held, alive = [], []

    class Alive(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            held.append(weakref.ref(result))
            alive.append(sum(each() is not None for each in held))
            return result

    with torch.no_grad(), Alive():
        replay(x)
    assert len(alive) == 64
    assert max(alive) == 2


def test_a_value_that_is_read_on_the_host_cannot_be_recorded():
    for read in (
        torch.Tensor.tolist,
        torch.Tensor.numpy,
        np.asarray,
        lambda x: x[0, 0].item(),
        lambda x: x[0, 0] > 0 or x,
    ):
        with pytest.raises(HostReadError):
            record_graph(read, (torch.randn(4, 3),))
