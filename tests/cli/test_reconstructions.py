"""Models without log p(x): their reconstruction errors in train, evaluate and compare, held to scikit-learn."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke, refused, said
from sklearn.decomposition import PCA
from sklearn.metrics import mean_squared_error, r2_score

from pyrovae import load_data, load_run
from pyrovae.exploration import reconstruct

WILD = """from pyrovae.models.autoencoder import pair
TRAINING_DEFAULTS = {"epochs": 5, "lr": 1e30}
"""


@pytest.fixture(scope="module")
def numbers() -> tuple[float, float]:
    """Squared error per column and explained variance of PCA on iris's held-out points, by scikit-learn."""
    data = load_data("iris")
    oracle = PCA(2).fit(data.train[:].double().numpy())
    x = data.test.double().numpy()
    reconstructed = oracle.inverse_transform(oracle.transform(x))
    return mean_squared_error(x, reconstructed), r2_score(x, reconstructed, multioutput="variance_weighted")


def test_train_and_evaluate_say_the_error_of_the_reconstruction(tmp_path: Path, numbers: tuple[float, float]) -> None:
    error, explained = numbers
    text = said("train", "pca", "--data", "iris", "--set", "latent=2", "--out", tmp_path / "pca")
    assert f"squared error {error:.5f} ± " in text
    assert f"per column, explained variance {explained:.1%}" in text
    text = said("evaluate", tmp_path / "pca", "--json", tmp_path / "pca.json")
    row = json.loads((tmp_path / "pca.json").read_text())["reconstructions"]["pca"]
    assert row["mean_squared_error"] == pytest.approx(error, rel=1e-4)
    assert row["explained_variance"] == pytest.approx(explained, rel=1e-5)
    assert [f"{error:.5f}", f"{explained:.1%}", "none"] == [text.split("pca ")[1].split()[k] for k in (0, 2, 3)]
    assert "PCA has no log p(x)" in text
    message = refused("evaluate", tmp_path / "pca", "--num-samples", 5)
    assert "PCA has no log p(x)" in message
    assert "Leave out --num-samples" in message


def test_they_stand_beside_the_others_reconstructions(tmp_path: Path, numbers: tuple[float, float]) -> None:
    words = ("--data", "iris", "--num-samples", 10, "--out", tmp_path / "out")
    text = said("compare", "--models", "pca(latent=2),ppca(latent=2),gaussian", *words)
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [row["name"] for row in content["models"]] == ["ppca(latent=2)", "gaussian"]
    found = content["reconstructions"]
    assert list(found) == ["ppca(latent=2)", "pca(latent=2)"]  # a Gaussian has no latent to go through
    assert found["pca(latent=2)"]["mean_squared_error"] == pytest.approx(numbers[0], rel=1e-4)
    run, data = load_run(tmp_path / "out" / "ppca-latent=2"), load_data("iris")
    result = reconstruct(run.model, run.guide, data.test)
    assert found["ppca(latent=2)"]["mean_squared_error"] == pytest.approx(result.mean_squared_error, rel=1e-6)
    assert result.mean_squared_error_se == pytest.approx(result.squared_error.numpy().std(ddof=1) / np.sqrt(30))
    assert f"{result.mean_squared_error:.5f}" in text
    assert "reconstruction of held-out points" in (tmp_path / "out" / "table.txt").read_text()
    assert (tmp_path / "out" / "pca-latent=2" / "checkpoint.pt").is_file()
    assert not (tmp_path / "out" / "reconstructions.png").exists()  # iris is a table


def test_one_that_fails_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "wild.py").write_text(WILD)
    words = ("--data", "iris", "--num-samples", 5, "--json", tmp_path / "a.json")
    result = invoke("compare", "--models", f"gaussian,{tmp_path / 'wild.py'}", *words)
    assert result.exit_code == 1
    assert "wild failed: Training stopped" in result.stdout
    assert list(json.loads((tmp_path / "a.json").read_text())["failed"]) == ["wild"]


def test_nothing_to_compare_is_one_sentence() -> None:
    message = refused("compare", "--models", "pca", "--data", "iris")
    assert message.startswith("pyrovae: No pair can be scored on iris: PCA has no log p(x)")
