"""The advice in an error is followed, and helps."""

from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import pyrovae
from pyrovae import InvalidInputError, evaluate, fit, log_weights

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))


def refusal(function: Any, *arguments: Any, **settings: Any) -> str:
    with pytest.raises(InvalidInputError) as refused:
        function(*arguments, **settings)
    return str(refused.value)


def globally(x: Tensor, W: Any = None) -> None:
    W = pyro.sample("W", dist.Normal(torch.zeros(4, 2), 1.0).to_event(2)) if W is None else W
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ W.mT, 0.5).to_event(1), obs=x)


def with_parameter(x: Tensor) -> None:
    globally(x, pyro.param("W", lambda: torch.ones(4, 2)))


def test_a_latent_that_all_points_share_under_an_autoguide() -> None:
    """What is wrong is the model's, and AutoNormal is what is used already."""
    said = refusal(fit, globally, AutoNormal(globally), X, epochs=1, batch_size=None)
    assert said.startswith("site 'W' of the model is outside")
    assert "make it a parameter" in said
    fit(with_parameter, AutoNormal(with_parameter), X, epochs=1, batch_size=None)
    said = refusal(fit, with_parameter, AutoDiagonalNormal(with_parameter), X, epochs=1, batch_size=None)
    assert "ties all points together" in said
    assert "use AutoNormal" in said


def test_a_sparse_tensor() -> None:
    model, guide = pyrovae.load("ppca")(4, latent=2)
    for use in (fit, evaluate, log_weights):
        said = refusal(use, model, guide, X.to_sparse(), **({"epochs": 1} if use is fit else {"num_samples": 2}))
        assert said == "x is a sparse tensor: convert it with x.to_dense(), or a batch of it at a time."
    fit(model, guide, X.to_sparse().to_dense(), epochs=1)


def test_what_is_no_tensor_is_told_how_to_become_one() -> None:
    model, guide = pyrovae.load("ppca")(4, latent=2)
    data, table = pyrovae.load_data("iris"), pd.DataFrame(X.numpy())
    loader = DataLoader(TensorDataset(X), 16)
    assert "its points are .train and .test" in refusal(log_weights, model, guide, data, 2)
    log_weights(model, guide, data.test, 2)
    assert "(torch.tensor(x.to_numpy()) makes one)" in refusal(log_weights, model, guide, table, 2)
    log_weights(model, guide, torch.tensor(table.to_numpy()), 2)
    assert "(torch.as_tensor converts it)" in refusal(log_weights, model, guide, X.numpy(), 2)
    log_weights(model, guide, torch.as_tensor(X.numpy()), 2)
    assert "torch.cat joins its batches" in refusal(log_weights, model, guide, loader, 2)
    log_weights(model, guide, torch.cat([x for (x,) in loader]), 2)


def test_counts_are_not_told_to_be_binary() -> None:
    class Counts(pyrovae.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Linear(2, 4)

        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Poisson(self.w(z).exp()).to_event(1), obs=x)

    counts = torch.poisson(torch.ones(40, 4) * 3)
    guide = pyrovae.guides.MeanField(4, 2)
    said = refusal(fit, Counts(), guide, counts.log1p(), epochs=1)
    assert "Give it raw counts, whole numbers from 0" in said
    assert "binar" not in said
    fit(Counts(), guide, counts, epochs=1)
