"""Files with empty cells at the command line: trained on, scored and filled by pairs that take them, refused by the others."""

import json
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


@pytest.fixture(scope="module")
def flow_run(folder: Path) -> Path:
    """A run of a pair that takes no missing values, and a file with one."""
    x = RNG.normal(size=(60, 4))
    np.savetxt(folder / "whole.csv", x, delimiter=",", header="age,income,height,rooms", comments="")
    done = invoke("train", "flow", "--data", folder / "whole.csv", "--epochs", "1", "--out", folder / "flow_run")
    assert done.exit_code == 0, done.output
    (folder / "one.csv").write_text("age,income,height,rooms\n0.1,0.2,0.3,0.4\n0.2,0.1,,0.3\n")
    return folder / "flow_run"


def test_a_run_of_a_pair_that_takes_none_refuses_a_file_with_gaps(folder: Path, flow_run: Path) -> None:
    said = refused("evaluate", flow_run, "--data", folder / "one.csv")
    assert "one.csv has no value at row 1, column height, and flow takes no missing values" in said


def test_the_standardised_run_counts_the_observed_entries(folder: Path) -> None:
    scores = {}
    for transform in ("none", "standardise"):
        out = folder / f"gaussian_{transform}"
        arguments = ("train", "gaussian", "--data", folder / "x.csv", "--transform", transform, "--out", out)
        assert invoke(*arguments).exit_code == 0
        done = invoke("evaluate", out, "--json", folder / "g.json")
        assert done.exit_code == 0, done.output

        scores[transform] = np.array(json.loads((folder / "g.json").read_text())["points"]["log_likelihood"])
    np.testing.assert_allclose(scores["none"], scores["standardise"], atol=5e-3)
    assert torch.isfinite(torch.tensor(scores["none"])).all()


def test_impute_does_not_write_over_the_file_that_it_reads(folder: Path) -> None:
    before = (folder / "x.csv").read_text()
    for words in (("--out", folder / "x.csv"), ("--out", folder / "y.csv", "--cells", folder / "x.csv")):
        assert "x.csv is the file that is read" in refused("impute", folder / "run", *words)
    assert (folder / "x.csv").read_text() == before
    assert not (folder / "y.csv").exists()


def test_impute_fills_the_cells_and_leaves_the_others_as_they_were_written(folder: Path) -> None:
    out, cells, draws = folder / "filled.csv", folder / "cells.csv", folder / "draws.npy"
    done = invoke("impute", folder / "run", "--out", out, "--cells", cells, "--draws", draws, "--level", "0.8")
    assert done.exit_code == 0, done.output
    data, run = pyrovae.load_data(folder / "x.csv", split=False), pyrovae.load_run(folder / "run")
    expected = pyrovae.impute(run.model, run.guide, data.test, level=0.8)
    before, after = ((folder / name).read_text().splitlines() for name in ("x.csv", "filled.csv"))
    assert len(before) == len(after) == 121
    for row, (old, new) in enumerate(zip(before[1:], after[1:], strict=True)):
        for column, (was, now) in enumerate(zip(old.split(","), new.split(","), strict=True)):
            if was in ("", "NA", "?"):
                assert float(now) == pytest.approx(expected.mean[row, column].item(), rel=1e-6)
            else:
                assert was == now
    lines = cells.read_text().splitlines()
    assert lines[0] == "row,column,mean,lower,upper"
    assert len(lines) == 1 + int(expected.missing.sum())
    row, name, mean, low, high = lines[1].split(",")
    place = int(row), data.column_names.index(name)
    assert max(map(len, (mean, low, high))) <= 12, "no more digits than float32 has"
    for text, values in ((mean, expected.mean), (low, expected.lower), (high, expected.upper)):
        assert float(text) == pytest.approx(values[place].item(), rel=1e-6)
    np.testing.assert_allclose(np.load(draws), expected.draws.numpy(), rtol=1e-6)


def test_impute_another_file_with_an_index_labels_and_decimal_commas(folder: Path) -> None:
    (folder / "new.csv").write_text(";name;age;income;height;rooms\n0;Ann;0,1;;50,2;1,1\n1;Bob;;;NA;2,0\n")
    done = invoke("impute", folder / "run", "--data", folder / "new.csv", "--out", folder / "new_filled.csv")
    assert done.exit_code == 0, done.output
    first, second, third = (folder / "new_filled.csv").read_text().splitlines()
    assert first == ";name;age;income;height;rooms"
    assert second.startswith("0;Ann;0,1;")
    assert second.endswith(";50,2;1,1")
    assert third.startswith("1;Bob;")
    assert third.endswith(";2,0")
    assert "." not in second + third
    filled = pyrovae.load_data(folder / "new_filled.csv", drop=["name"], split=False).test
    assert torch.isfinite(filled).all()


def test_impute_whole_numbers_and_standardised_columns(folder: Path) -> None:
    """Filled cells have the file's own units and kind."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=80)
    rows = [f"{round(1000 + 100 * a)},{round(20 * a + rng.normal())}" for a in z]
    rows[5] = rows[5].split(",")[0] + ","
    (folder / "whole.csv").write_text("a,b\n" + "\n".join(rows) + "\n")
    out = folder / "whole_run"
    arguments = ("--data", folder / "whole.csv", "--transform", "standardise", "--out", out)
    assert invoke("train", "gaussian", *arguments).exit_code == 0
    assert invoke("impute", out, "--out", folder / "whole_filled.csv").exit_code == 0
    lines = (folder / "whole_filled.csv").read_text().splitlines()
    assert [line for place, line in enumerate(lines) if place != 6] == [
        line for place, line in enumerate(["a,b", *rows]) if place != 6
    ]
    value = float(lines[6].split(",")[1])
    assert value == round(value)
    assert abs(value - 20 * z[5]) < 5


def test_what_impute_refuses(folder: Path, flow_run: Path) -> None:
    assert "holds an array: name a .npy file with --out" in refused(
        "impute", folder / "run", "--data", _array(folder), "--out", folder / "a.csv"
    )
    assert invoke("impute", folder / "run", "--data", _array(folder), "--out", folder / "a.npy").exit_code == 0
    assert np.isfinite(np.load(folder / "a.npy")).all()
    said = refused("impute", flow_run, "--data", folder / "one.csv", "--out", folder / "b.csv")
    assert "flow takes no missing values" in said
    assert "level is 2.0" in refused("impute", folder / "run", "--level", "2", "--out", folder / "c.csv")


def _array(folder: Path) -> Path:
    x = np.zeros((3, 4))
    x[1, 2] = np.nan
    np.save(folder / "array.npy", x)
    return folder / "array.npy"
