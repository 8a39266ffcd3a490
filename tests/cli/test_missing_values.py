"""Files with empty cells at the command line: trained on, scored and filled by pairs that take them, refused by the others."""

from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import invoke, refused

import pyrovae

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with names and empty cells, and a run of ppca on it."""
    folder = tmp_path_factory.mktemp("missing")
    x = RNG.normal(size=(120, 2)) @ RNG.normal(size=(2, 4)) + 0.3 * RNG.normal(size=(120, 4)) + [0, 5, 50, 1]
    cells = [[f"{value:.4f}" if RNG.random() > 0.2 else RNG.choice(["", "NA", "?"]) for value in row] for row in x]
    cells[0][2] = ""
    text = "\n".join(",".join(row) for row in [["age", "income", "height", "rooms"], *cells]) + "\n"
    (folder / "x.csv").write_text(text)
    done = invoke(
        "train", "ppca", "--data", folder / "x.csv", "--set", "latent=2", "--epochs", "3", "--out", folder / "run"
    )
    assert done.exit_code == 0, done.output
    return folder


def test_a_run_scores_the_observed_entries(folder: Path) -> None:
    done = invoke("evaluate", folder / "run", "--json", folder / "out.json")
    assert done.exit_code == 0, done.output
    run = pyrovae.load_run(folder / "run")
    x = pyrovae.load_data(folder / "x.csv").test
    assert x.isnan().any()
    expected = run.model.log_prob(x).mean().item()
    import json

    points = json.loads((folder / "out.json").read_text())["points"]
    assert np.mean(points["log_likelihood"]) == pytest.approx(expected, abs=1e-4)


def test_another_file_with_gaps(folder: Path) -> None:
    (folder / "new.csv").write_text("age,income,height,rooms\n0.1,,50.2,1.1\n,,,2.0\n")
    done = invoke("evaluate", folder / "run", "--data", folder / "new.csv", "--json", folder / "new.json")
    assert done.exit_code == 0, done.output


def test_a_comparison_of_pairs_that_take_gaps(folder: Path) -> None:
    done = invoke("compare", "--data", folder / "x.csv", "--models", "gaussian,gmm(components=2)", "--epochs", "2")
    assert done.exit_code == 0, done.output
    assert "cells have no value" in done.output


def test_pairs_that_take_none_name_the_cell(folder: Path) -> None:
    data = pyrovae.load_data(folder / "x.csv", split=False).test
    row, column = data.isnan().nonzero()[0].tolist()
    name = ["age", "income", "height", "rooms"][column]
    for model in ("pca", "flow"):
        said = refused("train", model, "--data", folder / "x.csv", "--out", folder / model)
        where = f"x.csv has no value at row {row}, column {name}, and {model} takes no missing values: remove such rows"
        assert where in said
        assert not (folder / model).exists()


def test_a_run_of_a_pair_that_takes_none_refuses_a_file_with_gaps(folder: Path) -> None:
    x = RNG.normal(size=(60, 4))
    np.savetxt(folder / "whole.csv", x, delimiter=",", header="age,income,height,rooms", comments="")
    done = invoke("train", "flow", "--data", folder / "whole.csv", "--epochs", "1", "--out", folder / "flow_run")
    assert done.exit_code == 0, done.output
    (folder / "one.csv").write_text("age,income,height,rooms\n0.1,0.2,0.3,0.4\n0.2,0.1,,0.3\n")
    said = refused("evaluate", folder / "flow_run", "--data", folder / "one.csv")
    assert "one.csv has no value at row 1, column height, and flow takes no missing values" in said


def test_the_standardised_run_counts_the_observed_entries(folder: Path) -> None:
    scores = {}
    for transform in ("none", "standardise"):
        out = folder / f"gaussian_{transform}"
        arguments = ("train", "gaussian", "--data", folder / "x.csv", "--transform", transform, "--out", out)
        assert invoke(*arguments).exit_code == 0
        done = invoke("evaluate", out, "--json", folder / "g.json")
        assert done.exit_code == 0, done.output
        import json

        scores[transform] = np.array(json.loads((folder / "g.json").read_text())["points"]["log_likelihood"])
    np.testing.assert_allclose(scores["none"], scores["standardise"], atol=5e-3)
    assert torch.isfinite(torch.tensor(scores["none"])).all()
