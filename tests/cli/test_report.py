"""pyrovae report, and the page that compare writes: what is on it, and what is refused."""

import json
from pathlib import Path

import pytest
from command_line import refused, said

from pyrovae import load_run
from pyrovae.cli.report_contents import run_settings

MAX_BYTES = 3_000_000


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three runs on iris: two latents, a mixture, and one without log p(x)."""
    folder = tmp_path_factory.mktemp("report")
    settings = {"linear_vae": ("latent=2",), "gmm": ("components=2",), "pca": ("latent=2",)}
    for name, options in settings.items():
        sets = [word for option in options for word in ("--set", option)]
        said("train", name, "--data", "iris", *sets, "--epochs", 2, "--out", folder / name)
    return {name: folder / name for name in settings}


def test_a_page_of_three_runs(runs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert said("report", *runs.values(), "--num-samples", 20, "--out", out) == f"page: {out}\n"
    text = out.read_text()
    assert len(text) < MAX_BYTES
    for heading in ("What was asked", "The comparison", "Figures", "Move through the latent space", "Glossary"):
        assert f"<h2>{heading}</h2>" in text
    for title in ("Where each model stands", "linear_vae: latent space", "gmm: parts", "pca: parts"):
        assert f"<h3>{title}</h3>" in text
    assert "Reconstruction of held-out points" in text
    explorers = json.loads(text.split('id="explorers">')[1].split("</script>")[0])
    assert {space["name"]: space["kind"] for space in explorers} == {"linear_vae": "network", "pca": "network"}


def test_compare_writes_the_page_by_default(tmp_path: Path) -> None:
    words = ("--data", "iris", "--num-samples", 10, "--epochs", 1, "--out", tmp_path / "out")
    said("compare", "--models", "ppca(latent=2),gaussian", *words)
    text = (tmp_path / "out" / "report.html").read_text()
    row = json.loads((tmp_path / "out" / "comparison.json").read_text())["models"][0]
    assert f"{row['log_likelihood']:.3f}".replace("-", "−") in text
    assert "<h1>ppca(latent=2) and gaussian on iris</h1>" in text


def test_every_option_is_resolved(runs: dict[str, Path]) -> None:
    settings = run_settings(load_run(runs["linear_vae"]))
    assert settings.options == {"latent": "2", "sigma": "chosen by the model", "guide": "LinearMeanField"}
    assert settings.given == {"latent"}
    assert settings.training["epochs"] == "2"
    assert settings.training["objective"] == "TraceMeanField_ELBO"  # which none was named for
    assert settings.training["schedule"] == "cosine"
    assert settings.training["seed"] == "0"


def test_refusals(runs: dict[str, Path], tmp_path: Path) -> None:
    assert "is no page's file: give one that ends in .html" in refused(
        "report", runs["gmm"], "--out", tmp_path / "a.txt"
    )
    assert "There is nothing to score: PCA has no log p(x)" in refused(
        "report", runs["pca"], "--out", tmp_path / "a.html"
    )
    assert "is named twice" in refused("report", runs["gmm"], runs["gmm"], "--out", tmp_path / "a.html")
    said("train", "gaussian", "--data", "wine", "--epochs", 1, "--out", tmp_path / "wine")
    message = refused("report", runs["gmm"], tmp_path / "wine", "--out", tmp_path / "a.html")
    assert "compare runs of the same data, transform and split" in message
    assert "is not a run" in refused("report", tmp_path, "--out", tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()
