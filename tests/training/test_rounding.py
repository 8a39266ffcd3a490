"""Tensors of single precision that blur a column: one warning, which names it, and a remedy that helps."""

import logging

import pytest
import torch

import pyrovae

X = torch.randn(300, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def warnings(caplog: pytest.LogCaptureFixture, x: torch.Tensor) -> list[str]:
    caplog.clear()
    model, guide = pyrovae.load("gaussian")(3)
    model.to(x.dtype)
    with caplog.at_level(logging.WARNING, "pyrovae"):
        pyrovae.fit(model, guide, x, epochs=1)
    return [record.message for record in caplog.records if "rounds" in record.message]


def test_a_blurred_column_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    x = X + torch.tensor([0.0, 1e6, 0.0])
    (message,) = warnings(caplog, x.float())
    assert message.startswith(
        "Single precision rounds column 1: numbers near 1e+06 are 0.12 apart, and the standard deviation is"
    )
    assert message.endswith("use model.double() and guide.double(), or subtract an offset before.")
    assert not warnings(caplog, x)  # either remedy helps
    assert not warnings(caplog, (x - x.mean(0)).float())


def test_columns_that_are_well_resolved_or_constant_are_not(caplog: pytest.LogCaptureFixture) -> None:
    assert not warnings(caplog, X.float())
    assert not warnings(caplog, (X * torch.tensor([1e-8, 1.0, 1e8])).float())  # a scale is no offset
    pixels = torch.rand(50, 3)
    pixels[:, 0] = 1.0
    model, guide = pyrovae.load("vae")(3, latent=1, hidden=(2,))
    with caplog.at_level(logging.WARNING, "pyrovae"):
        pyrovae.fit(model, guide, pixels, epochs=1)
    assert "rounds" not in caplog.text
