"""The points of an evaluation as a table, in a file, and ranked."""

import json
import math
from pathlib import Path

import command_line
import numpy as np
import pandas as pd
import pytest
import torch

import pyrovae
from pyrovae import InvalidInputError
from pyrovae.cli.output import write_table
from pyrovae.evaluation.point_tables import point_reliability


def evidence(points: int = 12) -> pyrovae.Evidence:
    model, guide = pyrovae.load("vae")(3, latent=1, hidden=(4,))
    return pyrovae.evaluate(model, guide, 3 * torch.randn(points, 3), 30)


def test_the_table_has_each_point_and_the_ranking_sorts_it() -> None:
    found, rows = evidence(), torch.arange(100, 112).flip(0)
    table = found.table(rows, list("abcdefghijkl"))
    np.testing.assert_array_equal(table["log_likelihood"], found.log_likelihood)
    np.testing.assert_array_equal(table["log_likelihood_se"], found.log_likelihood_se)
    assert list(table["method"]) == ["importance_sampling"] * 12
    assert list(table["reliability"]) == point_reliability(found.shortfall)
    assert list(table["rank"]) == [1 + sum(found.log_likelihood < value).item() for value in found.log_likelihood]
    ranked = found.ranking(rows, list("abcdefghijkl"))
    assert list(ranked["rank"]) == list(range(1, 13))
    assert ranked["log_likelihood"].is_monotonic_increasing
    assert (ranked["row"] + ranked["label"].map(ord) == 111 + ord("a")).all()  # rows and labels stay together
    assert list(found.table().columns) == [
        *("row", "log_likelihood", "log_likelihood_se", "method", "reliability", "rank"),
    ]
    assert list(found.table()["row"]) == list(range(12))


def test_reliability_of_a_point_goes_by_what_it_may_lack() -> None:
    assert point_reliability(torch.tensor([0.0, 0.3, math.inf, math.nan])) == [
        *("reliable", "lower_bound", "lower_bound", "not_estimated"),
    ]


def test_labels_of_other_points_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="labels has 2 entries for 12 points"):
        evidence().table(labels=["a", "b"])


def test_the_command_writes_rows_and_labels_of_the_file(tmp_path: Path) -> None:
    """The numbers are those of the JSON file, and rows lead back to the source."""
    from sklearn.datasets import load_wine

    frame = load_wine(as_frame=True).frame
    frame.to_csv(tmp_path / "wine.csv")
    run = tmp_path / "run"
    command_line.invoke("train", "gaussian", "--data", tmp_path / "wine.csv", "--label", "target", "--out", run)
    files = {name: tmp_path / name for name in ("points.csv", "all.json", "ranking.png")}
    command_line.invoke(
        *("evaluate", run, "--per-point", files["points.csv"], "--json", files["all.json"]),
        *("--ranking", files["ranking.png"]),
    )
    table = pd.read_csv(files["points.csv"])
    points = json.loads(files["all.json"].read_text())["points"]
    for name in ("log_likelihood", "log_likelihood_se", "method"):
        assert list(table[name]) == points[name]
    assert list(table["label"]) == list(frame["target"][table["row"]])
    model = pyrovae.load_run(run).model
    x = torch.as_tensor(frame.drop(columns="target").to_numpy()[table["row"]])
    dtype = next(model.parameters()).dtype  # type: ignore[union-attr]
    np.testing.assert_allclose(table["log_likelihood"], model.log_prob(x.to(dtype)).detach(), rtol=1e-5)  # type: ignore[union-attr]
    assert files["ranking.png"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "message"),
    [("points.txt", "neither .csv nor .parquet"), ("points.parquet", "pip install pyarrow, or name a .csv")],
)
def test_a_table_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setattr("pyrovae.cli.output.find_spec", lambda name: None)
    command_line.invoke("train", "gaussian", "--data", "iris", "--epochs", 0, "--out", tmp_path / "run")
    assert message in command_line.refused("evaluate", tmp_path / "run", "--per-point", tmp_path / name)


def test_parquet_is_written_through_pandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine may not be installed here: what is tested is that pandas is asked for it."""
    asked = []
    monkeypatch.setattr(
        pd.DataFrame, "to_parquet", lambda self, file, index: asked.append((self, index)) or file.touch()
    )
    table = evidence(2).table()
    write_table(tmp_path / "points.parquet", table)
    assert asked[0][0] is table
    assert (tmp_path / "points.parquet").exists()
