"""pyrovae diagnose: what it prints, writes and refuses."""

import json
from pathlib import Path

import arviz
import numpy as np
import pytest
import torch
from command_line import invoke, refused, said
from matplotlib.image import imread

import pyrovae
from pyrovae import diagnose, load_data, load_run
from pyrovae.cli.commands.diagnose import _apart, _some
from pyrovae.runs.run import data_of
from pyrovae.utils.random import random_rows

FIGURES = {"activity.png", "kl.png", "aggregate.png", "holes.png", "boundary.png"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of three latents on the digits, trained for a moment."""
    folder = tmp_path_factory.mktemp("diagnose") / "run"
    said("train", "vae", "--set", "latent=3", "--set", "hidden=30", "--epochs", 3, "--out", folder)
    return folder


def test_numbers_are_those_of_the_library(run: Path, tmp_path: Path) -> None:
    text = said(
        "diagnose", run, "--num-samples", 3, "--seed", 5, "--json", tmp_path / "d.json", "--netcdf", tmp_path / "d.nc"
    )
    restored, data = load_run(run), load_data("digits")
    found = diagnose(restored.model, restored.guide, data.test, num_samples=3, seed=5)
    content = json.loads((tmp_path / "d.json").read_text())
    assert {**found.to_dict()} == {key: value for key, value in content.items() if key not in ("metadata", "format")}
    assert content["metadata"]["data"] == "digits"
    assert content["metadata"]["points"] == len(data.test) == 359
    back = arviz.from_netcdf(str(tmp_path / "d.nc"))
    np.testing.assert_allclose(back.sample_stats.kl, found.kl)
    assert back.sample_stats.attrs["split"] == data.split
    rows = [line.split() for line in text.splitlines()]
    for name, activity in zip(found.names, found.activity.tolist(), strict=True):
        (row,) = [row for row in rows if row[:1] == [name]]
        assert row[1] == f"{activity:.3f}"
    assert f"active units {found.active_units()} of 3" in " ".join(text.split())
    assert f"{found.mutual_information.value:.3f}" in text
    assert "Var E[z|x]" in text
    assert "log 359 = 5.883" in text
    assert f"{found.holes.share.value:.1%}" in text
    assert found.reliability_message in " ".join(text.split())
    assert {path.name for path in (run / "diagnosis").iterdir()} == FIGURES


def test_pictures_are_of_the_latents_that_are_named(run: Path) -> None:
    """Every figure has ink; holes.png is in the folder that is asked for."""
    said("diagnose", run, "--points", 60, "--num-samples", 2, "--out", run / "elsewhere")
    assert {path.name for path in (run / "elsewhere").iterdir()} == FIGURES
    for name in FIGURES:
        assert imread(run / "elsewhere" / name)[..., :3].min() < 0.5


def test_points_are_a_random_part_under_the_seed() -> None:
    x = torch.randn(100, 2)
    some = _some(x, 40, seed=1)
    assert torch.equal(some, _some(x, 40, seed=1))
    assert not torch.equal(some, _some(x, 40, seed=2))
    assert {tuple(row) for row in some.tolist()} < {tuple(row) for row in x.tolist()}
    assert len(some.unique(dim=0)) == 40
    assert _some(x, None, seed=1) is x
    assert torch.equal(some, x[random_rows(x, 40, 1)])  # as `gap` and `evaluate --ais` draw them


def test_classes_of_a_mixture(tmp_path: Path) -> None:
    said("train", "gmm", "--epochs", 1, "--out", tmp_path / "gmm")
    text = said("diagnose", tmp_path / "gmm", "--num-samples", 2, "--json", tmp_path / "d.json")
    content = json.loads((tmp_path / "d.json").read_text())
    assert content["holes"] is None
    assert content["units"] == []
    assert sum(content["classes"]["z"]["used"][0]) == pytest.approx(1)
    assert f"{content['classes']['z']['perplexity'][0]:.2f}" in text
    assert "Discrete latents have no space between encodings" in text
    assert "active units" not in text
    assert not (tmp_path / "gmm" / "diagnosis").exists()


def test_points_that_are_no_images_and_more_latents_than_rows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    np.save(tmp_path / "x.npy", torch.randn(200, 30).numpy())
    said("train", "ppca", "--data", tmp_path / "x.npy", "--set", "latent=28", "--epochs", 1, "--out", tmp_path / "run")
    text = said("diagnose", tmp_path / "run", "--num-samples", 4)
    assert "4 more" in text
    assert {path.name for path in (tmp_path / "run" / "diagnosis").iterdir()} == FIGURES - {"holes.png", "boundary.png"}


def test_the_posterior_in_place_of_a_guide_that_knows_little(tmp_path: Path) -> None:
    """PPCA's posterior is Gaussian and known: KL(p(z|x) ‖ p(z)) in closed form. The guide has not been trained."""
    torch.manual_seed(0)
    x = torch.randn(60, 6) @ torch.randn(6, 6)
    np.save(tmp_path / "x.npy", x.numpy())
    options = ("--data", tmp_path / "x.npy", "--set", "latent=2", "--set", "guide=MeanField", "--epochs", 1)
    said("train", "ppca", *options, "--out", tmp_path / "run")
    for option in ((), ("--posterior",)):
        numbers = ("--num-samples", 200, "--json", tmp_path / f"{len(option)}.json")
        result = invoke("diagnose", tmp_path / "run", *option, *numbers)  # a slow machine shows a bar on standard error
        assert result.exit_code == 0, result.output
    guide, posterior = (json.loads((tmp_path / f"{number}.json").read_text()) for number in (0, 1))
    assert (guide["metadata"]["diagnosed"], posterior["metadata"]["diagnosed"]) == ("guide", "posterior")
    assert "ppca, posterior" in result.stdout
    restored = load_run(tmp_path / "run")
    test = data_of(restored).test
    with torch.no_grad():
        exact = restored.model.posterior(test)
        kl = torch.distributions.kl_divergence(
            torch.distributions.MultivariateNormal(exact.mean, exact.covariance_matrix),
            torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2)),
        )
    assert posterior["mean_kl"]["value"] == pytest.approx(
        float(kl.mean()), abs=5 * posterior["mean_kl"]["mc_se"] + 0.01
    )
    assert abs(guide["mean_kl"]["value"] - float(kl.mean())) > 0.2


def test_one_latent(tmp_path: Path) -> None:
    said("train", "ppca", "--set", "latent=1", "--epochs", 1, "--out", tmp_path / "run")
    said("diagnose", tmp_path / "run", "--num-samples", 2)
    assert (tmp_path / "run" / "diagnosis" / "aggregate.png").exists()


def test_refusals(run: Path, tmp_path: Path) -> None:
    assert "more than the 359 held-out points" in refused("diagnose", run, "--points", 1000)
    assert "is not a run" in refused("diagnose", tmp_path)
    assert "does not exist" in refused("diagnose", run, "--json", tmp_path / "no" / "d.json")
    (tmp_path / "file").write_text("")
    assert "is a file: name a folder" in refused("diagnose", run, "--out", tmp_path / "file")
    assert not (tmp_path / "no").exists()


def test_pairs_without_a_point_in_common() -> None:
    pairs = torch.tensor([[0, 1], [1, 2], [3, 4], [4, 5], [6, 7]])
    assert _apart(pairs, range(5), 3) == [0, 2, 4]
    assert _apart(pairs, [3, 2, 1], 3) == [3, 1]


def test_both_names_are_public() -> None:
    assert pyrovae.diagnose is diagnose
    assert "diagnose" in pyrovae.__all__
