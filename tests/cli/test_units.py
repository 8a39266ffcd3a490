"""A run on standardised columns: every estimate that a command prints has the units of the file."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import said


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ppca, which knows log p(x), on columns of very different scales."""
    folder = tmp_path_factory.mktemp("units")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 1)) @ rng.normal(size=(1, 3)) + 0.5 * rng.normal(size=(60, 3))
    np.save(folder / "x.npy", x * [1e3, 1e-2, 40.0])
    words = ("--data", folder / "x.npy", "--transform", "standardise", "--set", "latent=1", "--epochs", 3)
    said("train", "ppca", *words, "--out", folder / "run")
    return folder / "run"


def test_estimates_beside_the_exact_value(run: Path, tmp_path: Path) -> None:
    few = ("--num-samples", 20, "--two-sided-samples", 16, "--two-sided-replicates", 2, "--ais-chains", 2)
    kinds = ("--two-sided", "--prior-sampling", "--ais", "--bdmc", "--ais-steps", 20)
    said("evaluate", run, *kinds, *few, "--json", tmp_path / "all.json")
    content = json.loads((tmp_path / "all.json").read_text())
    exact = np.array([point["exact_log_likelihood"] for point in _rows(content["points"])])
    assert np.allclose(content["two_sided"]["per_point"]["lower"], exact, atol=1e-3)
    assert np.allclose(content["two_sided"]["per_point"]["upper"], exact, atol=1e-3)
    annealing = content["annealing"]
    assert np.allclose(annealing["log_likelihood"], exact[annealing["points"]], atol=1.0)
    assert abs(annealing["means"]["minus_importance_weights"]["value"]) < 0.3
    assert np.mean(annealing["bdmc"]["lower"]) == pytest.approx(exact.mean(), abs=1.5)
    prior = content["prior_sampling"]["per_point"]["log_likelihood"]
    assert np.mean(prior) == pytest.approx(exact.mean(), abs=1.5)


def test_gap(run: Path, tmp_path: Path) -> None:
    said("evaluate", run, "--num-samples", 20, "--json", tmp_path / "e.json")
    said("gap", run, "--num-samples", 20, "--ais", "--ais-chains", 2, "--ais-steps", 20, "--json", tmp_path / "g.json")
    exact = sorted(
        point["exact_log_likelihood"] for point in _rows(json.loads((tmp_path / "e.json").read_text())["points"])
    )
    found = json.loads((tmp_path / "g.json").read_text())["per_point"]
    for name in ("exact", "log_likelihood", "refined", "refined_elbo", "elbo", "weighted"):
        assert np.allclose(sorted(found[name]), exact, atol=1e-2), name
    assert np.mean(found["annealed"]) == pytest.approx(np.mean(exact), abs=0.3)


def test_choose(run: Path, tmp_path: Path) -> None:
    words = ("--data", run.parent / "x.npy", "--over", "components=1", "--epochs", 5, "--json", tmp_path / "c.json")
    found = {}
    for transform in ("none", "standardise"):
        said("choose", "gmm", *words, "--transform", transform)
        [found[transform]] = json.loads((tmp_path / "c.json").read_text())["candidates"]
    for name in ("log_likelihood", "train_log_likelihood"):
        assert found["standardise"][name] == pytest.approx(found["none"][name], abs=0.05)
    assert found["standardise"]["bic"] == pytest.approx(found["none"]["bic"], abs=5)


def _rows(points: dict[str, list[float]]) -> list[dict[str, float]]:
    return [dict(zip(points, values, strict=True)) for values in zip(*points.values(), strict=True)]
