"""Numbers below the smallest normal one are 0 in a step of training, and nowhere else."""

import contextlib
import sys

import pyro
import pytest
import torch
from pyro import distributions as dist
from torch import nn

import pyrovae
from pyrovae.utils.denormals import flush_denormals


def flushed() -> bool:
    smallest = sys.float_info.min
    return smallest / 2 == 0


def test_numbers_are_flushed_inside_and_as_they_were_outside():
    tiny = torch.tensor([1e-30])
    assert float(tiny * 1e-10) > 0
    with flush_denormals():
        if not flushed():
            pytest.skip("this processor does not flush")
        assert float(tiny * 1e-10) == 0
        with flush_denormals():
            pass
        assert float(tiny * 1e-10) == 0  # the inner one has left what it found
    assert float(tiny * 1e-10) > 0
    with contextlib.suppress(ValueError), flush_denormals():
        raise ValueError
    assert not flushed()


def test_a_step_flushes_and_a_callback_does_not():
    in_steps, in_callbacks = [], []

    class Model(pyrovae.Module):
        def __init__(self):
            super().__init__()
            self.loc = nn.Parameter(torch.zeros(2))

        def forward(self, x):
            in_steps.append(flushed())
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z + self.loc, 1.0).to_event(1), obs=x)

    x = torch.randn(20, 2)
    with flush_denormals():
        if not flushed():
            pytest.skip("this processor does not flush")
    guide = pyrovae.guides.MeanField(2, 2, (4,))
    pyrovae.fit(Model(), guide, x, epochs=2, compile=False, on_epoch=lambda fit: in_callbacks.append(flushed()))
    assert in_steps[-1]
    assert in_callbacks == [False, False]


def test_losses_of_a_mixture_are_the_same(monkeypatch):
    """Its far components have responsibilities that underflow. What is flushed is below the rounding of every sum."""
    x = pyrovae.load_data("digits").train[:256]

    def losses():
        torch.manual_seed(0)
        model, guide = pyrovae.load("gmm")(64, components=5)
        return torch.tensor(pyrovae.fit(model, guide, x, epochs=20, batch_size=None, lr=1e-2).losses)

    usual = losses()
    monkeypatch.setattr("pyrovae.training.trainer.flush_denormals", contextlib.nullcontext)
    torch.testing.assert_close(usual, losses(), rtol=1e-6, atol=0)
