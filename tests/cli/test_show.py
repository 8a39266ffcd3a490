"""pyrovae show: what it writes, says and refuses."""

from pathlib import Path

import numpy as np
import pytest
from command_line import refused, said
from matplotlib.image import imread
from torch.distributions import MultivariateNormal

from pyrovae import evaluate, load_data, load_run
from pyrovae.cli.pictures import PICTURES
from pyrovae.exploration import posterior_of_point, reconstruct

ARGUMENTS = {"interpolate": (0, 1), "analogy": (0, 1, 2), "posterior": (0,)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear VAE of two latents on iris, trained for a moment: every picture can be drawn of it."""
    folder = tmp_path_factory.mktemp("show") / "run"
    said("train", "linear_vae", "--data", "iris", "--set", "latent=2", "--epochs", 3, "--out", folder)
    return folder


@pytest.mark.parametrize("what", PICTURES)
def test_every_picture_has_ink_and_a_sentence(run: Path, what: str) -> None:
    text = said("show", run, what, *ARGUMENTS.get(what, ()), "--count", 4)
    sentence, file = text.splitlines()
    assert Path(file) == run / f"{what}.png"
    assert sentence.endswith(".")
    assert imread(file)[..., :3].min() < 0.5


def test_the_numbers_of_a_sentence_are_the_librarys(run: Path, tmp_path: Path) -> None:
    restored, data = load_run(run), load_data("iris")
    found = posterior_of_point(restored.model, restored.guide, data.test, 3)
    assert f"they differ by {max(found.kl, 0.0):.3f} nats" in said(
        "show", run, "posterior", 3, "--out", tmp_path / "p.svg"
    )
    text = (tmp_path / "p.svg").read_text()
    assert text.count("<path") > 5
    said("show", run, "reconstruct", "--out", tmp_path / "r.pdf")
    assert (tmp_path / "r.pdf").read_bytes()[:5] == b"%PDF-"
    assert reconstruct(restored.model, restored.guide, data.test).explained_variance > 0


def test_the_held_out_elbo_stands_beside_the_training(run: Path) -> None:
    restored, data = load_run(run), load_data("iris")
    elbo = evaluate(restored.model, restored.guide, data.test, 100).mean_elbo.value
    assert f"The ELBO of held-out points is {elbo:.2f} nats" in said("show", run, "training")


def test_a_training_on_standardised_columns_is_shown_in_the_units_of_the_data(tmp_path: Path) -> None:
    """A Gaussian has the same density in either, so its curve ends at the mean of log p(x) of the training points."""
    words = ("--data", "iris", "--transform", "standardise", "--epochs", 300, "--lr", 0.01, "--out", tmp_path / "run")
    text = said("train", "gaussian", *words)
    data = load_data("iris")
    x = data.train.double()
    exact = MultivariateNormal(x.mean(0), x.mT.cov(correction=0)).log_prob(x).mean()
    printed = float(text.split("training ELBO ")[1].split()[0])
    assert printed == pytest.approx(float(exact), abs=0.02)
    held_out = said("show", tmp_path / "run", "training").split("held-out points is ")[1].split()[0]
    standardised = load_data("iris", "standardise")
    run = load_run(tmp_path / "run")
    evidence = evaluate(run.model, run.guide, standardised.test, 100, transform=standardised.transform)
    assert float(held_out) == pytest.approx(evidence.mean_elbo.value, abs=0.006)


def test_several_runs_stand_beside_each_other(run: Path, tmp_path: Path) -> None:
    said("train", "pca", "--data", "iris", "--set", "latent=2", "--out", tmp_path / "pca")
    assert not (tmp_path / "pca" / "learning_curve.png").exists()  # there is no curve to draw
    text = said("show", run, "latent", "--beside", tmp_path / "pca", "--out", tmp_path / "both.png")
    assert "each on its model's two most informative latents" in text
    alone = said("show", run, "latent", "--ellipses", 3, "--out", tmp_path / "one.png")
    assert "coloured by label" in alone
    both, one = (imread(tmp_path / name).shape for name in ("both.png", "one.png"))
    assert both[1] > 1.4 * one[1]


def test_points_without_labels_are_drawn_in_one_colour(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 3)))
    said("train", "ppca", "--data", tmp_path / "x.npy", "--set", "latent=1", "--epochs", 1, "--out", tmp_path / "run")
    assert "which have no labels" in said("show", tmp_path / "run", "latent")


def test_refusals(run: Path, tmp_path: Path) -> None:
    assert "There is no picture 'manifolds' (did you mean 'manifold'?)" in refused("show", run, "manifolds")
    assert "interpolate takes 2 point numbers, and 1 were given: pyrovae show RUN interpolate 3 8" in refused(
        "show", run, "interpolate", 3
    )
    assert "There is no point 30: give a number from 0 to 29" in refused("show", run, "posterior", 30)
    assert "is no figure's file: give one that ends in .png, .svg, .pdf" in refused(
        "show", run, "latent", "--out", tmp_path / "x.jpg"
    )
    assert "is not a run" in refused("show", tmp_path, "latent")
    said("train", "gmm", "--data", "iris", "--epochs", 1, "--out", tmp_path / "gmm", "--set", "components=2")
    assert "Latent 'z' is discrete" in refused("show", tmp_path / "gmm", "analogy", 0, 1, 2)
    assert not (tmp_path / "gmm" / "analogy.png").exists()
