"""A recorded step is the eager step: same losses, same noise, same parameters; and what cannot be recorded says why."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from torch import nn

import pyrovae
from pyrovae import fit
from pyrovae.running import local_parameters, parameters
from pyrovae.structure import inspect
from pyrovae.training import default_objective
from pyrovae.training.objectives import terms_of


def digits(points: int) -> torch.Tensor:
    return pyrovae.load_data("digits").train[:points]


def trained(name: str, record: bool, **options):
    torch.manual_seed(0)
    model, guide = pyrovae.load(name)(64, **options.pop("pair", {}))
    told = {"epochs": 3, "batch_size": 64, "lr": 1e-3, "seed": 5, **options}
    result = fit(model, guide, digits(160), record=record, **told)  # a ragged last batch of 32
    return result, [value.detach().clone() for value in model.parameters()], model


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ppca", {}),
        ("ppca", {"pair": {"guide": pyrovae.MeanField}, "clip": 5.0, "ema": 0.9}),
        ("gmm", {"pair": {"components": 3}}),
        ("vae", {"pair": {"hidden": (16,), "latent": 3}, "kl_warmup": 0.5}),
        ("vae", {"optimizer": lambda params, lr: torch.optim.RMSprop(params, lr), "pair": {"hidden": (16,), "latent": 3}}),
    ],
    ids=["exact", "clip-and-average", "enumerated", "warm-up", "other-optimiser"],
)
def test_recorded_and_eager_training_are_the_same(name, options):
    eager, expected, _ = trained(name, False, **dict(options))
    recorded, found, _ = trained(name, True, **dict(options))
    assert recorded.road == "steps recorded and compiled: record=True"
    assert eager.road == "eager steps: record=False"
    assert recorded.losses == pytest.approx(eager.losses, rel=1e-5)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    for row, other in zip(recorded.history, eager.history, strict=True):
        assert row["gradient"] == pytest.approx(other["gradient"], rel=1e-3)
        assert row["kl"] == pytest.approx(other["kl"], rel=1e-3, abs=1e-3)
