"""A run makes x of whatever data it is given as it made x in training."""

import json
from pathlib import Path

import command_line
import numpy as np
import pytest
import torch

from pyrovae import InvalidInputError, evaluate, load, load_run
from pyrovae.cli.common import open_scored
from pyrovae.data.datasets import Data, load_data
from pyrovae.runs import run as runs

RNG = np.random.default_rng(0)


def train(folder: Path, data: Data, source: Path, transform: str | None = None, model: str = "gaussian") -> None:
    run = runs.prepare_run(load(model), data, source=str(source), transform=transform, root=None, options=[], seed=0)
    folder.mkdir()
    runs.train_run(run, data, folder)


def scored(folder: Path, other: Path, transform: str | None = None) -> tuple[torch.Tensor, float | None]:
    run, data = open_scored(folder, "cpu", str(other), transform)
    result = evaluate(run.model, run.guide, data.test, 2, transform=data.transform)
    return data.test, result.bits_per_dim


def test_levels_are_the_runs_own(tmp_path: Path) -> None:
    """Of a file whose largest number is another."""
    values = RNG.integers(0, 120, (80, 2, 3))
    np.save(tmp_path / "train.npy", values)
    np.save(tmp_path / "few.npy", values[:20] // 2)
    train(tmp_path / "run", load_data(tmp_path / "train.npy"), tmp_path / "train.npy")
    x, _ = scored(tmp_path / "run", tmp_path / "few.npy")
    assert torch.equal((x * (values.max() + 1)).floor(), torch.as_tensor(values[:20] // 2).flatten(1).float())
    values[7, 1, 0] = 500
    np.save(tmp_path / "more.npy", values)
    with pytest.raises(InvalidInputError, match="Row 7, column 3 has the value 500"):
        scored(tmp_path / "run", tmp_path / "more.npy")


@pytest.mark.parametrize("transform", ["logit", "standardise", None])
def test_the_transform_is_the_runs_own(tmp_path: Path, transform: str | None) -> None:
    """What was fitted is not fitted again, and naming it again changes nothing."""
    pixels = np.clip(RNG.normal(120, 40, (120, 6)), 0, 255).astype(np.uint8)
    np.save(tmp_path / "train.npy", pixels[:100])
    np.save(tmp_path / "other.npy", pixels[100:])
    train(tmp_path / "run", load_data(tmp_path / "train.npy", transform), tmp_path / "train.npy", transform)
    x, bits = scored(tmp_path / "run", tmp_path / "other.npy")
    again, same_bits = scored(tmp_path / "run", tmp_path / "other.npy", transform)
    assert torch.equal(x, again)
    assert bits == same_bits
    assert 6 < bits < 9  # log2 of 40 √(2πe) is 7.4
    with pytest.raises(InvalidInputError, match="was trained on x = .*: leave --transform threshold out"):
        scored(tmp_path / "run", tmp_path / "other.npy", "threshold")


def test_columns_go_by_name(tmp_path: Path) -> None:
    table = np.column_stack([RNG.normal(size=(60, 2)), RNG.integers(0, 3, 60)])
    np.savetxt(tmp_path / "train.csv", table, delimiter=",", header="a,b,kind", comments="")
    np.savetxt(tmp_path / "other.csv", table[:9, [1, 2, 0]], delimiter=",", header="b,more,a", comments="")
    np.savetxt(tmp_path / "less.csv", table[:9, :1], delimiter=",", header="a", comments="")
    train(tmp_path / "run", load_data(tmp_path / "train.csv", label="kind"), tmp_path / "train.csv")
    x, _ = scored(tmp_path / "run", tmp_path / "other.csv")
    assert torch.equal(x, torch.as_tensor(table[:9, :2]).float())
    with pytest.raises(InvalidInputError, match="has no column 'b', which the run was trained on: it has a"):
        scored(tmp_path / "run", tmp_path / "less.csv")
    _, own = open_scored(tmp_path / "run", "cpu")
    assert own.test_labels is not None
    assert torch.equal(own.test_labels, torch.as_tensor(table[:, 2]).long()[own.test_rows])


@pytest.mark.parametrize("points", [1, 8])
def test_a_new_observation_is_scored(tmp_path: Path, points: int) -> None:
    """One point, or a few that agree in a column: to be constant is no fault of points that nothing is fitted to."""
    np.save(tmp_path / "train.npy", RNG.normal(size=(300, 3)))
    new = RNG.normal(size=(points, 3))
    new[:, 1] = 0.5
    np.save(tmp_path / "new.npy", new)
    train(tmp_path / "run", load_data(tmp_path / "train.npy"), tmp_path / "train.npy")
    out = tmp_path / "scores.json"
    text = command_line.said("evaluate", tmp_path / "run", "--data", tmp_path / "new.npy", "--json", out)
    assert "gaussian" in text
    assert "few values" not in text  # to vary little is no fault of theirs either
    assert "rounds" not in text
    run = load_run(tmp_path / "run")
    expected = run.model.log_prob(torch.as_tensor(new).float()).mean().item()
    (row,) = json.loads(out.read_text())["models"]
    assert row["log_likelihood"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer"])
def test_raw_and_standardised_tables_agree(name: str, tmp_path: Path) -> None:
    """In every pair that does not depend on units: the same log p̂(x) in the file's units."""
    values = []
    for transform in (None, "standardise"):
        out = tmp_path / f"{transform}.json"
        models = "gaussian,gmm(components=2),factor_analysis(latent=2)"
        options = ("--data", name, "--models", models, "--json", out, "--epochs", 0)
        command_line.invoke("compare", *options, *(("--transform", transform) if transform else ()))
        values.append([row["log_likelihood"] for row in json.loads(out.read_text())["models"]])
    assert values[0] == pytest.approx(values[1], abs=1e-3)


def test_a_run_in_double_precision_stays_there(tmp_path: Path) -> None:
    x = RNG.normal(size=(60, 3)) + np.array([1e9, 0, 0])
    np.save(tmp_path / "x.npy", x)
    data = load_data(tmp_path / "x.npy")
    train(tmp_path / "run", data, tmp_path / "x.npy", model="factor_analysis")
    run, again = open_scored(tmp_path / "run", "cpu")
    assert again.test.dtype == torch.float64
    assert torch.equal(again.test, data.test)
    assert run.model.mu.dtype == torch.float64
    assert evaluate(run.model, run.guide, again.test, 5).mean_log_likelihood.value > -10
