"""Weights as safetensors: the pair that is loaded is the one that was saved, bit for bit."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from typer.testing import CliRunner

import pyrovae
from pyrovae import InvalidInputError
from pyrovae.adapters import load_safetensors, save_safetensors
from pyrovae.cli.app import app
from pyrovae.pair.execution import modules

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("safetensors") is None, reason="safetensors is not installed"
)


def vae(seed: int, latent: int = 2) -> tuple[Any, Any]:
    torch.manual_seed(seed)
    return pyrovae.load("vae")(4, latent=latent, hidden=(8,), prior=pyrovae.priors.VampPrior)


def tensors(model: Any, guide: Any) -> dict[str, torch.Tensor]:
    return {
        f"{number} {name}": value.clone()
        for number, module in enumerate(modules(model, guide))
        for name, value in module.state_dict().items()
    }


@needs_library
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_pair_comes_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    """Also a prior that the model and the guide share, counters and flags."""
    x, file = torch.randn(20, 4, dtype=dtype), tmp_path / "vae.safetensors"
    saved, loaded = vae(0), vae(1)
    for module in modules(*saved, *loaded):
        module.to(dtype)
    pyrovae.fit(*saved, x, epochs=2)
    save_safetensors(*saved, file)
    load_safetensors(*loaded, file)
    before, after = tensors(*saved), tensors(*loaded)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    scores = [pyrovae.evaluate(*pair, x, num_samples=5, progress=False).log_likelihood for pair in (saved, loaded)]
    assert torch.equal(*scores)


@needs_library
def test_parameters_in_pyros_store_come_back(tmp_path: Path) -> None:
    def model(x: torch.Tensor) -> None:
        scale = pyro.param("scale", torch.ones(4), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, scale).to_event(1), obs=x)

    def guide(x: torch.Tensor) -> None:
        pass

    x, file = torch.randn(20, 4), tmp_path / "scale.safetensors"
    pyrovae.fit(model, guide, x, epochs=2, lr=0.1)
    trained = pyro.param("scale").detach().clone()
    save_safetensors(model, guide, file, ("scale",))
    with torch.no_grad():
        pyro.get_param_store()["scale"] = torch.ones(4)
    load_safetensors(model, guide, file)
    assert torch.equal(pyro.param("scale"), trained)
    assert not torch.equal(trained, torch.ones(4))


@needs_library
def test_files_of_other_pairs_are_refused_and_change_nothing(tmp_path: Path) -> None:
    file, other = tmp_path / "vae.safetensors", vae(1, latent=3)
    save_safetensors(*vae(0), file)
    before = tensors(*other)
    with pytest.raises(InvalidInputError, match=r"is of another pair: .* there and .* here"):
        load_safetensors(*other, file)
    double = vae(1)
    for module in modules(*double):
        module.double()
    with pytest.raises(InvalidInputError, match="float32 there and .* float64 here"):
        load_safetensors(*double, file)
    with pytest.raises(InvalidInputError, match="is in only one of them"):
        load_safetensors(*pyrovae.load("ppca")(4, latent=2), file)
    (tmp_path / "text").write_text("no tensors at all")
    with pytest.raises(InvalidInputError, match="is no safetensors file that can be read"):
        load_safetensors(*other, tmp_path / "text")
    with pytest.raises(InvalidInputError, match="There is no file"):
        load_safetensors(*other, tmp_path / "none")
    assert all(torch.equal(before[name], value) for name, value in tensors(*other).items())


@needs_library
def test_the_command_writes_the_weights_of_a_run(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 4)))
    words = ["train", "ppca", "--data", tmp_path / "x.npy", "--set", "latent=2", "--epochs", 1, "--out", tmp_path / "r"]
    assert CliRunner().invoke(app, list(map(str, words))).exit_code == 0
    done = CliRunner().invoke(app, ["export", str(tmp_path / "r"), "--safetensors"])
    assert done.exit_code == 0, done.output
    run, stored = pyrovae.load_run(tmp_path / "r"), load_file(tmp_path / "r" / "weights.safetensors")
    model: Any = run.model
    assert torch.equal(stored["model.0.W"], model.W)


def test_a_library_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)  # its import fails
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(InvalidInputError, match=r"pip install 'pyrovae\[safetensors\]'"):
        save_safetensors(*vae(0), tmp_path / "file")


def test_export_without_a_kind_says_which_there_are(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(tmp_path)])
    assert done.exit_code == 2
    assert "Say what to export: --safetensors" in done.stderr
