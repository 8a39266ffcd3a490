"""pyrovae compare: pairs that fail on the way."""

import json
from pathlib import Path

import numpy as np
import pyro
import pytest
from typer.testing import CliRunner, Result

from pyrovae import runs
from pyrovae.cli import app

WILD = """from pyrovae.models.vae import pair
RECIPE = {"epochs": 5, "lr": 1e30}
"""
UNSCORED = """import pyrovae
from pyrovae.models import ppca
RECIPE = {"epochs": 1}
def pair(dim):
    model, guide = ppca.pair(dim, 2)
    class Unscored(type(model)):
        def log_prob(self, x):
            raise ArithmeticError("no such\\nnumber")
    model.__class__ = Unscored
    return model, guide
"""


def invoke(*words: object) -> Result:
    pyro.clear_param_store()
    return CliRunner().invoke(app, list(map(str, words)))


def said(*words: object) -> str:
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def failed(*words: object, code: int) -> tuple[str, str]:
    """What is printed, and the one sentence on standard error."""
    result = invoke(*words)
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("pyrovae: ")
    assert result.stderr.count("\n") == 1
    return result.stdout, result.stderr


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(50, 4)))
    return tmp_path / "points.npy"


def test_a_pair_that_fails_leaves_the_others_rows(data: Path, tmp_path: Path) -> None:
    """One diverges in training, one when it is scored: the rows of the rest are those of a comparison without them."""
    (tmp_path / "wild.py").write_text(WILD)
    (tmp_path / "unscored.py").write_text(UNSCORED)
    words = ("--data", data, "--epochs", 2, "--samples", 10)
    models = f"gaussian,{tmp_path / 'wild.py'},{tmp_path / 'unscored.py'},ppca"
    out = tmp_path / "out"
    text, sentence = failed("compare", "--models", models, *words, "--json", tmp_path / "a.json", "--out", out, code=1)
    assert sentence == "pyrovae: 2 of 4 pairs failed, wild, unscored: the lines below the table say why.\n"
    content = json.loads((tmp_path / "a.json").read_text())
    assert [row["name"] for row in content["models"]] == ["gaussian", "ppca"]
    assert list(content["failed"]) == ["wild", "unscored"]
    assert content["failed"]["wild"].startswith("Training stopped at step ")
    assert content["failed"]["unscored"] == "model.log_prob(x) failed: ArithmeticError: no such number"
    assert json.loads((out / "comparison.json").read_text()) == content
    for shown in (text, (out / "table.txt").read_text()):
        lines = [line.split() for line in shown.splitlines()]
        for name in ("wild", "unscored"):
            assert [name, *"–" * 10] in lines
        assert "wild failed: Training stopped at step" in shown
        assert "unscored failed: model.log_prob(x) failed: ArithmeticError: no such number" in shown
    assert (out / "evidence.png").is_file()
    said("compare", "--models", "gaussian,ppca", *words, "--json", tmp_path / "b.json")
    alone = json.loads((tmp_path / "b.json").read_text())
    assert alone["failed"] == {}
    assert alone["models"][0]["log_likelihood"] == content["models"][0]["log_likelihood"]


def test_who_scores_a_part_of_x_is_refused_before_anything_is_trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "train", lambda *_: pytest.fail("it was trained"))
    words = ("--models", "ppca,conditional_vae", "--data", data, "--out", tmp_path / "out")
    _, sentence = failed("compare", *words, code=2)
    assert "ppca scores 4 numbers of each point and conditional_vae 3" in sentence
    assert not (tmp_path / "out").exists()


def test_a_narrow_terminal_shows_failures_too(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wild.py").write_text(WILD)
    monkeypatch.setenv("COLUMNS", "60")
    words = ("--data", data, "--epochs", 2, "--samples", 10)
    text, _ = failed("compare", "--models", f"{tmp_path / 'wild.py'},ppca", *words, code=1)
    assert ["model", "ppca", "wild"] in [line.split() for line in text.splitlines()]
    assert any(line.split()[:3] == ["±", "Monte", "Carlo"] and line.split()[-1] == "–" for line in text.splitlines())


def test_where_none_is_left_there_is_no_table(data: Path, tmp_path: Path) -> None:
    (tmp_path / "wild.py").write_text(WILD)
    (tmp_path / "unscored.py").write_text(UNSCORED)
    words = ("--data", data, "--samples", 10, "--out", tmp_path / "out")
    _, sentence = failed("compare", "--models", f"{tmp_path / 'unscored.py'}", *words, code=2)
    assert sentence.startswith("pyrovae: model.log_prob(x) failed")
    models = f"{tmp_path / 'wild.py'},{tmp_path / 'unscored.py'}"
    text, sentence = failed("compare", "--models", models, *words, "--overwrite", code=1)
    assert text == ""
    assert "Every pair failed, wild: Training stopped at" in sentence
    assert "; unscored: model.log_prob(x) failed" in sentence
