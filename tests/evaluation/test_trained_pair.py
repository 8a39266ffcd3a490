"""compare() of runs that are trained already, and which runs may stand beside each other."""

from pathlib import Path

import numpy as np
import pytest

import pyrovae
from pyrovae import InvalidInputError, compare, load_run
from pyrovae.evaluation.trained_pair import check_same_training_data
from pyrovae.runs import run as runs


def train(data: Path, folder: Path, model: str = "ppca", transform: str | None = None, split_seed: int = 0) -> Path:
    loaded = pyrovae.load_data(data, transform, seed=split_seed)
    settings = {"source": str(data), "transform": transform, "root": None, "options": [], "seed": 0, "epochs": 2}
    run = runs.prepare_run(pyrovae.load(model), loaded, **settings)
    runs.train_run(run, loaded, folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(50, 4)))
    return tmp_path / "points.npy"


def test_a_run_is_scored_as_its_pair_is(data: Path, tmp_path: Path) -> None:
    run = load_run(train(data, tmp_path / "a"))
    x = runs.data_of(run).test
    model, guide = pyrovae.load("gaussian")(4)
    beside = compare({"run": run, "fresh": (model, guide)}, x, 10, seed=3)
    alone = compare({"run": (run.model, run.guide)}, x, 10, seed=3)
    assert beside.evidence["run"].mean_log_likelihood == alone.evidence["run"].mean_log_likelihood
    assert beside.fits == {"run": run.fit_result}
    assert alone.fits is None


def test_runs_of_other_splits_are_refused(data: Path, tmp_path: Path) -> None:
    a, b = load_run(train(data, tmp_path / "a")), load_run(train(data, tmp_path / "b", split_seed=1))
    with pytest.raises(InvalidInputError, match="a was trained on .*split seed 0.* and b on .*split seed 1"):
        compare({"a": a, "b": b}, runs.data_of(a).test, 10)


def test_runs_of_other_transforms_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", np.random.default_rng(0).integers(0, 5, size=(50, 4)))
    found = {
        name: load_run(train(tmp_path / "pixels.npy", tmp_path / name, transform=name))
        for name in ("dequantise", "logit")
    }
    with pytest.raises(InvalidInputError, match="transform: dequantise.* and logit on .*transform: logit"):
        check_same_training_data(found)


def test_a_file_that_has_changed_is_told(data: Path, tmp_path: Path) -> None:
    a = load_run(train(data, tmp_path / "a"))
    np.save(data, np.random.default_rng(1).normal(size=(50, 4)))
    with pytest.raises(InvalidInputError, match="was trained on other points than .*points.npy.* has now"):
        runs.data_of(a)
    b = load_run(train(data, tmp_path / "b"))
    with pytest.raises(InvalidInputError, match="a and b were trained on different points: .* has changed between"):
        check_same_training_data({"a": a, "b": b})


def test_a_copy_of_the_file_is_the_same_data(data: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.npy").write_bytes(data.read_bytes())
    a, b = load_run(train(data, tmp_path / "a")), load_run(train(tmp_path / "copy.npy", tmp_path / "b"))
    check_same_training_data({"a": a, "b": b})


def test_points_that_are_drawn_anew_have_no_checksum(tmp_path: Path) -> None:
    """Then runs of two files are told apart by name, and one file agrees with itself."""
    for name in ("one", "two"):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).integers(0, 5, size=(50, 4)))
    folders = {
        name: train(tmp_path / f"{name[:3]}.npy", tmp_path / name, "bernoulli_mixture", "binarise")
        for name in ("one", "one_again", "two")
    }
    found = {name: load_run(folder) for name, folder in folders.items()}
    assert found["one"].data_fingerprint == [40, 4]
    check_same_training_data({name: found[name] for name in ("one", "one_again")})
    assert runs.data_of(found["one"]).dim == 4
    with pytest.raises(InvalidInputError, match="one was trained on .*one.npy.* and two on .*two.npy"):
        check_same_training_data({name: found[name] for name in ("one", "two")})
