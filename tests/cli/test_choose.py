"""pyrovae choose: its table, its files, and what it refuses."""

import collections
import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import refused, said
from rich.console import Console

import pyrovae
from pyrovae.loading.options import parse_range
from pyrovae.tables.choice import show


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(240, 4)) * [1, 2, 3, 4])
    return tmp_path / "points.npy"


def test_choose_says_and_writes_what_python_returns(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("--data", data, "--epochs", 3, "--seed", 2, "--folds", 3, "--out", out, "--json", tmp_path / "a.json")
    text = said("choose", "gmm(covariance=Diagonal)", "--over", "components=1..2,4", *words)

    def build(dim, components):
        return pyrovae.load("gmm")(dim, components=components, covariance=pyrovae.likelihoods.Diagonal)

    training = {"epochs": 3, "lr": 3e-2, "batch_size": 2048}
    x = pyrovae.load_data(data).train
    choice = pyrovae.choose(build, {"components": [1, 2, 4]}, x, seed=2, folds=3, training=training)
    content = json.loads((tmp_path / "a.json").read_text())
    python = json.loads(json.dumps(choice.to_dict()))
    for each in (*content["candidates"], *python["candidates"]):
        del each["seconds"]
    for key in ("candidates", "per_point", "best", "best_set", "message", "num_folds"):
        assert content[key] == python[key]
    assert content["metadata"]["test_points"] == 48  # which no candidate has seen
    assert len(content["per_point"]["1"]["log_likelihood"]) == 192
    assert (out / "table.txt").read_text().split() == text.rpartition("table, JSON")[0].split()
    with (out / "choice.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["value"] for row in rows] == ["1", "2", "4"]
    assert float(rows[2]["bic"]) == content["candidates"][2]["bic"]
    assert (out / "choice.png").read_bytes().startswith(b"\x89PNG")
    assert "is the table of a choice" in refused("evaluate", out)
    best = next(line for line in text.splitlines() if line.split()[:1] == [choice.best])
    mean = choice.candidates[choice.best].mean_log_likelihood
    assert f"{mean.value:.3f} ± 0 ± {mean.data_se:.3f}  *" in best
    assert choice.message.partition(".")[0] in text


def test_all_points_are_chosen_on_if_that_is_asked_for(data: Path, tmp_path: Path) -> None:
    words = ("--data", data, "--all-points", "--folds", 2, "--epochs", 2, "--json", tmp_path / "a.json")
    said("choose", "ppca", "--over", "latent=1..2", *words)
    content = json.loads((tmp_path / "a.json").read_text())
    loaded = pyrovae.load_data(data)
    x = torch.cat([loaded.train, loaded.test])
    training = {"epochs": 2, "lr": 1e-3, "batch_size": 4096}
    choice = pyrovae.choose(pyrovae.load("ppca"), {"latent": [1, 2]}, x, folds=2, training=training)
    assert len(content["per_point"]["1"]["log_likelihood"]) == 240
    assert content["per_point"]["2"]["log_likelihood"] == choice.candidates["2"].log_likelihood.tolist()
    assert content["minka"] == choice.minka


def test_binary_data_get_their_likelihood(tmp_path: Path) -> None:
    np.save(tmp_path / "binary.npy", np.random.default_rng(0).integers(0, 2, size=(40, 4)))
    words = ("--data", tmp_path / "binary.npy", "--epochs", 1, "--num-samples", 10)
    text = said("choose", "vae(hidden=4,)", "--over", "latent=1,2", *words)
    assert "latent=" in text


def test_columns_are_taken_out_as_in_the_other_commands(tmp_path: Path) -> None:
    rows = [
        f"{number},{a:.4f},{b:.4f},{'xy'[number % 2]}"
        for number, (a, b) in enumerate(np.random.default_rng(0).normal(size=(60, 2)))
    ]
    file = tmp_path / "people.csv"
    file.write_text("\n".join(["visit,age,income,group", *rows]))
    words = ("--data", file, "--epochs", 1, "--out", tmp_path / "out", "--json", tmp_path / "a.json")
    said("choose", "ppca", "--over", "latent=1", *words, "--label", "group", "--drop", "visit", "--dtype", "float64")
    metadata = json.loads((tmp_path / "a.json").read_text())["metadata"]
    assert (metadata["base_measure"], metadata["dtype"]) == ("Lebesgue on R^2", "float64")
    reading = json.loads((tmp_path / "out" / "config.json").read_text())["reading"]
    assert reading == {"label": "group", "drop": ["visit"], "dtype": "float64"}


def test_a_value_that_fails_has_its_sentence(data: Path) -> None:
    message = refused("choose", "gmm", "--over", "components=1,400", "--data", data, "--epochs", 1, code=1)
    assert message == "pyrovae: 1 of 2 values failed: the lines below the table say why.\n"


def test_what_cannot_be_chosen_is_one_sentence(data: Path, tmp_path: Path) -> None:
    def sentence(model: str, over: str, *words: object) -> str:
        return refused("choose", model, "--over", over, "--data", data, *words)

    assert "'components' is no option with values: write name=1..30" in sentence("gmm", "components")
    assert "'5..2' ends below its start" in sentence("gmm", "components=5..2")
    assert "gmm has no option 'latent'" in sentence("gmm", "latent=2")
    assert "components has a value twice: 1, 2, 2" in sentence("gmm", "components=1..2,2")
    assert "components is both fixed and chosen" in sentence("gmm(components=2)", "components=1..2")
    assert "leave out --validation-fraction, or --folds" in sentence(
        "gmm", "components=1..2", "--folds", 2, "--validation-fraction", 0.1
    )
    assert "give a share between 0 and 1" in sentence("gmm", "components=1..2", "--validation-fraction", 2)
    assert "give a probability between 0 and 1" in sentence("ppca", "latent=1..2", "--level", 2)
    assert "192 points" in sentence("gmm", "components=1..2", "--folds", 193)
    np.save(tmp_path / "pixels.npy", np.random.default_rng(0).integers(0, 5, size=(50, 4)))
    words = ("--data", tmp_path / "pixels.npy", "--transform", "binarise", "--all-points")
    assert "Training points are drawn anew" in refused("choose", "bernoulli_pca", "--over", "latent=1,2", *words)


@pytest.mark.parametrize(
    ("text", "values"),
    [("k=1..4", [1, 2, 3, 4]), ("k=2,4,8..9", [2, 4, 8, 9]), ("k = -1..0", [-1, 0]), ("k=(1,2),3", [(1, 2), 3])],
)
def test_ranges_and_lists(text: str, values: list[object]) -> None:
    def parse(texts: list[str]) -> dict[str, object]:
        name, _, value = texts[0].partition("=")
        return {name: eval(value)}

    assert parse_range(text, parse) == ("k", values)


def test_a_narrow_terminal_cuts_no_number() -> None:
    """Columns of less interest are left out at 80 characters, and none at 132."""
    torch.manual_seed(0)
    x = torch.randn(60, 3)
    choice = pyrovae.choose(pyrovae.load("gmm"), {"components": [1, 2]}, x, training={"epochs": 1}, progress=False)
    shown = {}
    for width in (80, 132):
        page = io.StringIO()
        show(choice, collections.defaultdict(str, num_samples=1, tolerance=0.05), Console(file=page, width=width))
        shown[width] = page.getvalue()
        assert "…" not in shown[width]
        assert f"{choice.candidates['2'].mean_log_likelihood.value:.3f}" in shown[width]
    assert "seconds" in shown[132]
    assert "seconds" not in shown[80]
