"""The latent spaces in the page: the script's decoder against PyTorch, and what is packed for it."""

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pyrovae
from pyrovae import fit, load, load_data
from pyrovae.data.datasets import Data
from pyrovae.exploration import LatentSpace, decoder_layers, manifold
from pyrovae.report.explorer import pack, pack_floats

SCRIPT = Path(pyrovae.__file__).parent / "report" / "assets" / "decoder.js"
AGREEMENT = 1e-4
NETWORKS = [
    ("vae", {"latent": 3, "hidden": (20, 10)}, "dequantise"),
    ("vae", {"latent": 2, "hidden": (8,), "likelihood": pyrovae.likelihoods.Bernoulli()}, "threshold"),
    ("autoencoder", {"latent": 2, "hidden": (12,)}, "dequantise"),
    ("ppca", {"latent": 4}, "dequantise"),
    ("linear_vae", {"latent": 2}, "logit"),
]


def digits(transform: str = "dequantise") -> Data:
    return load_data("digits", transform)


def trained(name: str, options: dict[str, Any], data: Data) -> tuple[Any, Any]:
    model, guide = load(name)(data.dim, **options)
    fit(model, guide, data.train, epochs=2, compile=False)
    return model, guide


def numbers(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


def node(script: str, content: object) -> Any:
    """What a script prints that is run after the page's decoder, with `content` in `input`."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    code = (
        f"const {{ readLayers, decode, greyOf }} = require({json.dumps(str(SCRIPT))});"
        f"const input = JSON.parse(require('fs').readFileSync(0));{script}"
    )
    done = subprocess.run(["node", "-e", code], input=json.dumps(content), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("name", "options", "transform"), NETWORKS)
def test_the_pages_script_decodes_as_pytorch_does(name: str, options: dict[str, Any], transform: str) -> None:
    """Over points of the latent space that lie within it and far outside, in x and in grey levels."""
    data = digits(transform)
    model, guide = trained(name, options, data)
    packed = pack(name, model, guide, data)
    assert packed is not None
    assert packed["kind"] == "network"
    space = LatentSpace(model, guide, data.test)
    z = 3 * torch.randn(40, space.size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = space.decode(z)
    script = (
        "const layers = readLayers(input.packed.layers);"
        "const x = input.z.map((z) => [...decode(layers, z)]);"
        "const grey = x.map((row) => row.map((value) => greyOf(input.packed.view, value)));"
        "console.log(JSON.stringify({ x, grey }));"
    )
    found = node(script, {"packed": packed, "z": z.tolist()})
    assert np.abs(np.array(found["x"]) - expected.numpy()).max() < AGREEMENT
    assert np.abs(np.array(found["grey"]) - data.transform.grey(expected).numpy()).max() < AGREEMENT


def test_layers_are_the_decoder_and_are_refused_where_they_are_not() -> None:
    data = digits()
    model, guide = trained("vae", {"latent": 2, "hidden": (16,)}, data)
    layers = decoder_layers(LatentSpace(model, guide, data.test))
    assert layers is not None
    assert layers.num_weights == 2 * 16 + 16 + 16 * 64 + 64  # without the outputs of the variances
    assert layers.activations == ("tanh", "none")
    model.decode = lambda z: model.likelihood(pyrovae.over_batch(model.decoder, z) * 2)  # not what `decoder` looks like
    assert decoder_layers(LatentSpace(model, guide, data.test)) is None


@pytest.mark.parametrize(
    ("name", "options"), [("vae", {"latent": 2, "hidden": (16,)}), ("factor_analysis", {"latent": 2})]
)
def test_a_pair_in_double_precision_is_packed(name: str, options: dict[str, Any]) -> None:
    """Files whose columns are far apart in scale are read so."""
    data = load_data("iris", dtype="float64")
    model, guide = load(name)(data.dim, **options)
    model = model.double()
    guide = guide.double() if isinstance(guide, torch.nn.Module) else guide
    fit(model, guide, data.train, epochs=2, progress=False)
    assert pack(name, model, guide, data) is not None


def test_what_is_too_large_is_a_grid_that_was_decoded_before() -> None:
    data = digits()
    model, guide = trained("vae", {"latent": 3, "hidden": (16,)}, data)
    packed = pack("vae", model, guide, data, max_weights=100)
    assert packed is not None
    assert packed["kind"] == "grid"
    expected = manifold(model, guide, data.test[:300], 15)
    found = np.frombuffer(base64.b64decode(packed["grid"]["x"]), np.uint8).reshape(15, 15, 64)
    assert np.abs(found / 255 - data.transform.grey(expected.decoded).numpy()).max() <= 0.5 / 255 + 1e-6
    assert packed["grid"]["across"] == expected.across.tolist()
    assert len(packed["order"]) == 2


def test_points_lie_at_their_posterior_means_with_their_labels() -> None:
    data = load_data("iris")
    model, guide = trained("linear_vae", {"latent": 2}, data)
    packed = pack("linear_vae", model, guide, data)
    assert packed is not None
    codes = numbers(packed["points"]["z"]).reshape(-1, 2)
    assert np.allclose(codes, guide.posterior(data.test).mean.detach(), atol=1e-6)
    assert packed["labels"] == data.test_labels.tolist()
    assert (codes >= np.array(packed["low"]) - 1e-6).all()
    assert (codes <= np.array(packed["high"]) + 1e-6).all()
    assert np.array_equal(numbers(packed["points"]["x"]).reshape(-1, 4), data.test.numpy())
    assert packed["view"]["columns"] == list(data.column_names)
    assert np.array_equal(numbers(pack_floats(torch.tensor([1.5, -2.0]))), [1.5, -2.0])


@pytest.mark.parametrize(("name", "options"), [("gmm", {"components": 3}), ("gaussian", {}), ("ppca", {"latent": 1})])
def test_who_has_no_plane_has_no_explorer(name: str, options: dict[str, Any]) -> None:
    data = load_data("iris")
    model, guide = load(name)(data.dim, **options)
    assert pack(name, model, guide, data) is None
