"""Encoder and decoder as ONNX: onnxruntime computes what PyTorch does."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import pyrovae
from pyrovae import InvalidInputError
from pyrovae.adapters import save_onnx
from pyrovae.cli.app import app

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
MISSING = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed")


def run(file: Path, rows: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: rows.numpy()})
    return torch.as_tensor(found)


def trained(name: str, **options: Any) -> tuple[Any, Any, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(40, 5) @ torch.randn(5, 5)
    model, guide = pyrovae.load(name)(5, **options)
    pyrovae.fit(model, guide, x, epochs=2)
    return model, guide, x


def test_a_vae_has_the_numbers_of_its_networks(tmp_path: Path) -> None:
    """The oracle is the networks themselves, by hand: the means are the first half of the encoder's outputs."""
    model, guide, x = trained("vae", latent=2, hidden=(8,), likelihood=pyrovae.likelihoods.FixedNormal(0.5))
    encoder, decoder = save_onnx(model, guide, x, tmp_path)
    z = 3 * torch.randn(23, 2)  # another number of rows
    with torch.no_grad():
        torch.testing.assert_close(run(encoder, x[:29]), guide.encoder(x[:29])[:, :2], rtol=0, atol=1e-5)
        by_hand = model.centre + model.scale * (model.decoder(z) + model.offset)
        torch.testing.assert_close(run(decoder, z), by_hand, rtol=0, atol=1e-5 * (1 + float(by_hand.abs().max())))


@pytest.mark.slow
def test_ppca_has_the_closed_form(tmp_path: Path) -> None:
    """E[z|x] = (WᵀW + σ²I)⁻¹ Wᵀ(x − μ), which ONNX has no equations for, is exported as the linear map that it is."""
    model, guide, x = trained("ppca", latent=2)
    encoder, decoder = save_onnx(model, guide, x, tmp_path)
    with torch.no_grad():
        z = guide_mean(model, x)
        torch.testing.assert_close(run(encoder, x), z, rtol=0, atol=1e-5)
        torch.testing.assert_close(run(decoder, z), z @ model.W.mT + model.mu, rtol=0, atol=1e-5)


def guide_mean(model: Any, x: Tensor) -> Tensor:
    return model.posterior(x).mean


@pytest.mark.slow
@pytest.mark.parametrize("name", ["factor_analysis", "linear_vae", "hierarchical_vae", "autoencoder"])
def test_other_pairs_have_the_numbers_of_pytorch(tmp_path: Path, name: str) -> None:
    model, guide, x = trained(name)
    encoder, decoder = save_onnx(model, guide, x, tmp_path)
    space = pyrovae.exploration.LatentSpace(model, guide, x)
    z = space.encode(x)
    torch.testing.assert_close(run(encoder, x), z, rtol=0, atol=1e-5 * (1 + float(z.abs().max())))
    y = space.decode(z).detach()
    torch.testing.assert_close(run(decoder, z), y, rtol=0, atol=1e-5 * (1 + float(y.abs().max())))


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("gmm", {"components": 3}, "discrete"),
        (
            "vae",
            {"latent": 2, "hidden": (8,), "guide": pyrovae.guides.IAF},
            "The encoder cannot be exported: .*closed form",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused(tmp_path: Path, name: str, options: Any, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence) as told:
        save_onnx(*trained(name, **options), tmp_path)
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_writes_both(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 4)))
    words = ["train", "ppca", "--data", tmp_path / "x.npy", "--set", "latent=2", "--epochs", 1, "--out", tmp_path / "r"]
    assert CliRunner().invoke(app, list(map(str, words))).exit_code == 0
    done = CliRunner().invoke(app, ["export", str(tmp_path / "r"), "--onnx"])
    assert done.exit_code == 0, done.output
    assert {file.name for file in (tmp_path / "r").glob("*.onnx")} == {"encoder.onnx", "decoder.onnx"}
