import json
import os
import re
import shutil
import signal
import time
from importlib.metadata import version
from pathlib import Path

import arviz
import numpy as np
import pandas
import pytest
import torch
from command_line import BARS, invoke, one_sentence, python_m, refused, said
from matplotlib.image import imread
from processes import Script

import pyrovae
from pyrovae import available
from pyrovae.cli.common import device_of
from pyrovae.estimators import batched_scoring as scoring
from pyrovae.runs import run as runs

KEYS = [
    *("name", "parameters", "latent", "exact_log_likelihood", "log_likelihood", "log_likelihood_mc_se"),
    *("log_likelihood_data_se", "elbo", "gap", "bits_per_dim", "ess", "seconds", "log_likelihood_jackknife"),
    *("high_pareto_k_fraction", "pareto_k_threshold", "reliability_message", "bound_curve"),
]
MINE = '''"""z ~ N(0, 1), x|z ~ N(z, I)."""
import pyro, pyro.distributions as dist, torch
TRAINING_DEFAULTS = {"epochs": 1}
def pair(dim):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.expand(*z.shape[:-1], dim), 1.0).to_event(1), obs=x)
    def guide(x):
        loc = pyro.param("loc", torch.zeros(1))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc.expand(len(x), 1), 1.0).to_event(1))
    return model, guide
'''


def points(path: Path, dim: int = 4, count: int = 50) -> Path:
    np.save(path, np.random.default_rng(0).normal(size=(count, dim)))
    return path


def binary(path: Path) -> Path:
    np.save(path, np.random.default_rng(0).integers(0, 2, (60, 6)))
    return path


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, str]:
    """compare on the digits: its folder, its JSON, what it printed."""
    folder = tmp_path_factory.mktemp("compare")
    out = folder / "out"
    result = invoke("compare", "--epochs", 2, "--num-samples", 20, "--out", out, "--json", folder / "all.json")
    assert result.exit_code == 0, result.output
    assert one_sentence(result.stderr).startswith("pyrovae: gmm: Training ended at an ELBO of")  # Adam's first step
    return out, json.loads((folder / "all.json").read_text()), result.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained ppca on points of 4 numbers."""
    folder = tmp_path_factory.mktemp("train")
    data = points(folder / "points.npy")
    said("train", "ppca", "--data", data, "--set", "latent=2", "--epochs", 2, "--out", folder / "run")
    return folder / "run"


# compare


def test_compare_json_has_every_key(comparison: tuple[Path, dict, str]) -> None:
    out, content, _ = comparison
    assert [row["name"] for row in content["models"]] == ["gmm", "ppca", "vae"]
    for row in content["models"]:
        assert set(KEYS) <= set(row)
        assert row["log_likelihood"] >= row["elbo"] - 1e-4
        assert row["gap"] == pytest.approx(row["log_likelihood"] - row["elbo"], abs=1e-4)
        assert 1 <= row["ess"] <= 20.001
        assert len(row["losses"]) == 2
        bits = (64 * np.log(17) - row["log_likelihood"]) / (64 * np.log(2))
        assert row["bits_per_dim"] == pytest.approx(bits, rel=1e-5)
    gmm, ppca, vae = content["models"]
    assert gmm["latent"] == "10 classes"
    assert ppca["parameters"] == 64 * int(ppca["latent"].removeprefix("R^")) + 64 + 1
    assert vae["latent"].startswith("R^")
    for row in (gmm, ppca):
        assert row["log_likelihood"] == pytest.approx(row["exact_log_likelihood"], abs=1e-3)
    assert vae["exact_log_likelihood"] is None
    assert vae["gap"] > 0.1
    assert set(content["differences"]) == {"gmm", "ppca", "vae"} - {content["best"]}
    assert json.loads((out / "comparison.json").read_text()) == content


def test_compare_card_says_what_was_scored(comparison: tuple[Path, dict, str]) -> None:
    metadata = comparison[1]["metadata"]
    told = {
        "data": "digits",
        "split": "1438 train / 359 test, at random",
        "transform": "(pixel + u) / 17",
        "base_measure": "Lebesgue on [0,1]^64",
        "seed": 0,
        "num_samples": 20,
        "pyrovae": pyrovae.__version__,
        "torch": version("torch"),
    }
    assert {key: str(metadata[key]) for key in told} == {key: str(value) for key, value in told.items()}


FILES = ("config.json", "checkpoint.pt", "metrics.csv")


def test_compare_leaves_a_folder(comparison: tuple[Path, dict, str]) -> None:
    out = comparison[0]
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {path for path in written if "previous" not in path} == {
        *("report.html", "table.txt", "comparison.json", "config.json"),
        *("learning_curves.png", "samples.png", "evidence.png", "differences.png"),
        *(f"{name}/{file}" for name in ("gmm", "ppca", "vae") for file in FILES),
    }
    for figure in out.glob("*.png"):
        assert imread(figure).std() > 0.01  # something is drawn


def test_compare_prints_the_table_that_it_keeps(comparison: tuple[Path, dict, str]) -> None:
    out, content, text = comparison
    table = (out / "table.txt").read_text()
    for heading in (
        "model",
        "latent",
        "parameters",
        "exact",
        "log p̂(x)",
        "± Monte Carlo ± data",
        "ELBO",
        "gap",
        "bits/dim",
    ):
        assert heading in table
    assert "ESS" in table
    assert "seconds" in table
    for row in content["models"]:
        line = next(line for line in table.splitlines() if line.strip().startswith(row["name"]))
        assert f"{row['log_likelihood']:.3f} ±" in line
        assert f"{row['parameters']:,}" in line
    assert "paired differences to the best" in table
    assert f"ppca − {content['best']}: " in table
    assert "digits: 1438 train / 359 test, at random (split seed 0)" in table
    assert [line.rstrip() for line in text.splitlines()][: len(table.splitlines())] == table.splitlines()
    assert text.splitlines()[-1] == f"table, runs, figures and report.html: {out}"


def test_a_run_of_compare_is_scored_and_sampled_like_any_other(
    comparison: tuple[Path, dict, str], tmp_path: Path
) -> None:
    out, content, _ = comparison
    said("evaluate", out / "gmm", "--num-samples", 20, "--json", tmp_path / "gmm.json")
    [row] = json.loads((tmp_path / "gmm.json").read_text())["models"]
    assert row["log_likelihood"] == pytest.approx(content["models"][0]["log_likelihood"], abs=1e-3)
    said("sample", out / "gmm", "--num-samples", 9, "--out", tmp_path / "gmm.png")
    assert imread(tmp_path / "gmm.png").shape[:2] == (3 * 66 + 2, 3 * 66 + 2)
    assert "is a comparison: name one of its runs" in refused("evaluate", out)


def test_compare_stands_in_for_the_gaussians_on_binary_data(tmp_path: Path) -> None:
    data = binary(tmp_path / "binary.npy")
    text = said("compare", "--data", data, "--epochs", 1, "--num-samples", 10, "--json", tmp_path / "all.json")
    content = json.loads((tmp_path / "all.json").read_text())
    assert [row["name"] for row in content["models"]] == ["bernoulli_mixture", "bernoulli_pca", "vae"]
    assert "counting on {0,1}^6" in text
    for row in content["models"]:
        assert row["log_likelihood"] < 0  # a probability
        assert row["bits_per_dim"] == pytest.approx(-row["log_likelihood"] / (6 * np.log(2)), rel=1e-5)


@pytest.mark.parametrize("kind", ["densities", "probabilities"])
def test_compare_of_all_leaves_out_who_has_no_place_in_the_table_and_says_why(kind: str, tmp_path: Path) -> None:
    data = binary(tmp_path / "x.npy") if kind == "probabilities" else points(tmp_path / "x.npy", dim=6, count=60)
    words = ("--epochs", 1, "--num-samples", 10, "--json", tmp_path / "all.json", "--out", tmp_path / "out")
    text = said("compare", "--models", "all", "--data", data, *words)
    content = json.loads((tmp_path / "all.json").read_text())
    found, excluded = {row["name"] for row in content["models"]}, content["excluded"]
    without_density = {name for name, row in content["reconstructions"].items() if row["no_density"]}
    assert without_density == {"pca", "autoencoder"}
    assert found | set(excluded) | without_density == set(available())
    assert not (found | without_density) & set(excluded)
    assert "has no log p(x)" in content["reconstructions"]["pca"]["no_density"]
    assert excluded["conditional_vae"] == "It scores 5 of the 6 numbers of each point, given the rest."
    gaussians = {"gaussian", "gmm", "ppca", "factor_analysis", "mixture_ppca", "flow"}
    bernoullis = {"bernoulli_mixture", "bernoulli_pca"}
    assert {"vae", "hierarchical_vae", "gmvae"} <= found
    if kind == "densities":
        assert gaussians <= found
        assert bernoullis <= set(excluded)
        assert "left out, bernoulli_mixture, bernoulli_pca: Point 0 has the value" in " ".join(text.split())
    else:
        assert bernoullis <= found
        assert gaussians <= set(excluded)
        assert all("a density on R^D" in excluded[name] for name in gaussians)
    for name in found:
        assert any(line.split()[:1] == [name] for line in text.splitlines())  # a row each
    assert "left out, conditional_vae: It scores 5 of the 6" in (tmp_path / "out" / "table.txt").read_text()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert set(config["models"]) == found | without_density


def test_compare_of_all_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    data = points(tmp_path / "points.npy", dim=6, count=60)
    words = ("--data", data, "--epochs", 1, "--num-samples", 10)
    said("compare", "--models", f"{tmp_path / 'mine.py'}, all", *words, "--json", tmp_path / "all.json")
    rows = json.loads((tmp_path / "all.json").read_text())["models"]
    assert rows[0]["name"] == "mine"
    assert "ppca" in {row["name"] for row in rows}
    assert "names a model twice" in refused("compare", "--models", "all,ppca", *words)


def test_compare_refuses_before_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "train_run", lambda *_: pytest.fail("it was trained"))
    data = binary(tmp_path / "binary.npy")
    out = tmp_path / "out"
    assert "The data are binary" in refused("compare", "--data", data, "--models", "bernoulli_pca,gmm", "--out", out)
    message = refused("compare", "--models", "bernoulli_pca", "--out", out)
    assert "outside the support of Bernoulli" in message
    assert "inarise them first" in message
    assert "names a model twice" in refused("compare", "--models", "ppca,ppca", "--out", out)
    assert not out.exists()


def test_compare_of_all_says_once_why_nobody_has_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrovae.loading.pairs.available", lambda: ["bernoulli_mixture", "bernoulli_pca", "pca"])
    message = refused("compare", "--models", "all", "--data", points(tmp_path / "points.npy"))
    assert "No pair can be scored on" in message
    assert message.count("outside the support of Bernoulli") == 1
    assert message.count("has no log p(x)") == 1


def test_compare_takes_a_users_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    data = points(tmp_path / "points.npy")
    models = f"ppca,{tmp_path / 'mine.py'}"
    words = ["--models", models, "--data", data, "--epochs", 1, "--num-samples", 10]
    said("compare", *words, "--json", tmp_path / "all.json", "--out", tmp_path / "out")
    rows = json.loads((tmp_path / "all.json").read_text())["models"]
    assert [row["name"] for row in rows] == ["ppca", "mine"]
    assert (rows[1]["latent"], rows[1]["parameters"], rows[1]["bits_per_dim"]) == ("R^1", 1, None)
    assert (tmp_path / "out" / "mine" / "model.py").read_text() == MINE
    assert not (tmp_path / "out" / "samples.png").exists()  # the points are no images


def test_compare_refuses_pairs_that_share_a_parameter(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(MINE)
    models = f"{tmp_path / 'a.py'},{tmp_path / 'b.py'}"
    message = refused("compare", "--models", models, "--data", points(tmp_path / "points.npy"))
    assert "name a pyro.param 'loc', so training one would move the other" in message


# train, evaluate, sample, models


def test_train_says_what_it_did(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    data = points(tmp_path / "points.npy")
    text = said("train", tmp_path / "mine.py", "--data", data, "--out", tmp_path / "run")
    assert text.startswith("mine: training ELBO -")
    assert "TraceMeanField_ELBO, 1 steps" in text
    assert f"kept in {tmp_path / 'run'}\n" in text
    assert text.endswith("mine: eager steps: 1 of them, fewer than 50\n")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("config.json", "checkpoint.pt", "model.py", "learning_curve.png", "metrics.csv")
    }
    (tmp_path / "mine.py").unlink()
    assert "mine" in said("evaluate", tmp_path / "run", "--num-samples", 10)


OWN_GUIDE = """import pyro.distributions as dist
import pyrovae
class Mine(pyrovae.guides.MeanField):
    def distribution(self, outputs):
        loc, rho = outputs.chunk(2, dim=-1)
        return dist.StudentT(5.0, loc, pyrovae.guides.positive(rho)).to_event(1)
"""


def test_a_run_keeps_the_file_that_its_guide_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained by a relative path; then the file is gone, the run is elsewhere, and it is scored, and trained on, all the same."""
    data = points(tmp_path / "points.npy")
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN_GUIDE)
    words = ("--data", data, "--set", "latent=2", "--set", "guide=own.py:Mine", "--epochs", 2)
    said("train", "ppca", *words, "--out", "run")
    assert (tmp_path / "run" / "option_guide.py").read_text() == OWN_GUIDE
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["options"] == ["latent=2", "guide=option_guide.py:Mine"]
    said("evaluate", "run", "--num-samples", 50, "--json", "before.json")
    Path("own.py").unlink()
    shutil.move("run", tmp_path / "moved")
    said("evaluate", "moved", "--num-samples", 50, "--json", "after.json")
    before, after = (json.loads(Path(name).read_text()) for name in ("before.json", "after.json"))
    assert before["points"] == after["points"]
    row = after["models"][0]
    assert row["gap"] > 1e-3  # the posterior is Gaussian, and the guide is not
    assert type(pyrovae.load_run("moved").guide).__name__ == "Mine"
    said("train", "--resume", "moved")
    (tmp_path / "moved" / "option_guide.py").unlink()
    assert "There is no file" in refused("evaluate", "moved")


@pytest.mark.parametrize("name", ["lr=0.01", "a,b (c)", "it's", '"quoted"', "old.py:Mine"])
def test_a_file_of_ones_own_in_folders_of_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder one is in and the run's: an option names the file that is there with either before it."""
    data = points(tmp_path / "points.npy")
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    Path("own.py").write_text(OWN_GUIDE)
    words = ("--data", data, "--set", "latent=2", "--set", "guide=own.py:Mine", "--epochs", 1)
    said("train", "ppca", *words, "--out", name)
    assert (Path(name) / "option_guide.py").read_text() == OWN_GUIDE
    assert json.loads((Path(name) / "config.json").read_text())["options"] == ["latent=2", "guide=option_guide.py:Mine"]
    Path("own.py").unlink()
    said("evaluate", name, "--num-samples", 20)
    assert type(pyrovae.load_run(name).guide).__name__ == "Mine"


def test_of_an_option_given_twice_the_last_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does for plain values: the run keeps that file, and can be opened."""
    data = points(tmp_path / "points.npy")
    monkeypatch.chdir(tmp_path)
    Path("first.py").write_text(OWN_GUIDE)
    Path("second.py").write_text(OWN_GUIDE.replace("Mine", "Other"))
    given = ("guide=first.py:Mine", "latent=3", " guide =second.py:Other", "latent=2")
    settings = [word for option in given for word in ("--set", option)]
    said("train", "ppca", *settings, "--data", data, "--epochs", 1, "--out", "run")
    run = pyrovae.load_run("run")
    assert type(run.guide).__name__ == "Other"
    assert run.guide.latent == 2
    assert len(run.config.options) == 2
    said("evaluate", "run", "--num-samples", 20)


def test_evaluate_writes_json_and_netcdf(run: Path, tmp_path: Path) -> None:
    text = said("evaluate", run, "--num-samples", 30, "--json", tmp_path / "a.json", "--netcdf", tmp_path / "a.nc")
    content = json.loads((tmp_path / "a.json").read_text())
    [row] = content["models"]
    assert f"{row['log_likelihood']:.3f} ±" in text
    assert "30 draws of each guide" in text
    with arviz.from_netcdf(str(tmp_path / "a.nc")).sample_stats as stats:
        assert stats["log_likelihood"].shape == (10,)
        assert float(stats["log_likelihood"].mean()) == pytest.approx(row["log_likelihood"], rel=1e-6)
        assert float(stats["elbo"].mean()) == pytest.approx(row["elbo"], rel=1e-6)
        assert np.allclose(stats["exact_log_likelihood"], stats["log_likelihood"], atol=1e-4)
        assert stats.attrs["num_samples"] == 30
        assert stats.attrs["data"] == content["metadata"]["data"] == "points.npy"
        assert stats.attrs["split"] == "40 train / 10 test, at random"


def test_what_only_annealing_hears_is_not_dropped_in_silence(run: Path) -> None:
    message = refused("evaluate", run, "--num-samples", 20, "--bdmc", "--ais-chains", 4)
    assert "--ais-chains, --bdmc say how chains are annealed: add --ais." in message


def test_evaluate_says_whether_to_trust_the_number(run: Path, tmp_path: Path) -> None:
    words = ("--num-samples", 200, "--prior-sampling", "--json", tmp_path / "a.json", "--netcdf", tmp_path / "a.nc")
    text = said("evaluate", run, *words, "--bound-curve", tmp_path / "a.png")
    content = json.loads((tmp_path / "a.json").read_text())
    [row] = content["models"]
    assert row["reliability_message"].startswith("Trust log p̂(x)")
    assert row["reliability_message"] in " ".join(text.split())
    [curve] = [line.split() for line in text.splitlines() if line.strip().startswith("L_K")]
    assert curve[1:] == [f"{point['value']:.3f}" for point in row["bound_curve"]]
    prior = content["prior_sampling"]
    [line] = [line.split() for line in text.splitlines() if line.strip().startswith("prior p(z)")]
    assert line[2] == f"{prior['means']['log_likelihood']['value']:.3f}"
    assert line[-1] == f"{prior['high_pareto_k_fraction']:.0%}"
    exact = np.array(content["points"]["exact_log_likelihood"])
    np.testing.assert_allclose(content["points"]["log_likelihood_jackknife"], exact, atol=1e-4)
    error = np.array(prior["per_point"]["log_likelihood"]) - exact
    assert np.all(np.abs(error) < 6 * np.array(prior["per_point"]["log_likelihood_se"]) + 0.1)
    with arviz.from_netcdf(str(tmp_path / "a.nc")).sample_stats as stats:
        assert stats["bound_curve"].shape == (4, 10)
        assert stats["draws"].values.tolist() == [1, 10, 100, 200]
        assert stats["pareto_k"].shape == stats["prior_sampling_ess"].shape == (10,)
        assert stats.attrs["reliability_message"] == row["reliability_message"]
    assert imread(tmp_path / "a.png").std() > 0.01


def test_evaluate_says_by_which_method_and_how_reliably(run: Path, tmp_path: Path) -> None:
    """The pair knows log p(x); under --num-samples the bound stands beside it, with --tolerance the method's number."""
    words = ("--num-samples", 200, "--tolerance", 0.02, "--json", tmp_path / "a.json", "--netcdf", tmp_path / "a.nc")
    text = said("evaluate", run, *words)
    content = json.loads((tmp_path / "a.json").read_text())
    [row] = content["models"]
    assert row["method"] == "exact"
    assert row["log_likelihood"] == row["exact_log_likelihood"]
    assert row["bound_error"] == pytest.approx(row["log_likelihood"] - row["bound"])
    assert content["points"]["method"] == ["exact"] * 10
    assert row["reliability"] == "reliable"
    assert f"{row['log_likelihood']:.3f} ± 0 ±" in text
    assert "Exact at every point" in text
    assert "tolerance 0.02 nats; 200 draws of each guide" in " ".join(text.split())
    with arviz.from_netcdf(str(tmp_path / "a.nc")).sample_stats as stats:
        assert stats["method"].values.tolist() == ["exact"] * 10


def test_evaluate_bounds_from_both_sides(run: Path, tmp_path: Path) -> None:
    """The guide of the pair is its posterior: all is equal, and the certificate is log(1/δ)/N below."""
    files = ("--json", tmp_path / "a.json", "--netcdf", tmp_path / "a.nc")
    settings = ("--two-sided-samples", 16, "--two-sided-replicates", 3, "--delta", 0.05)
    text = said("evaluate", run, "--num-samples", 20, "--two-sided", *settings, *files)
    content = json.loads((tmp_path / "a.json").read_text())
    found, exact = content["two_sided"], content["models"][0]["exact_log_likelihood"]
    for bound in ("lower", "upper"):
        assert found["means"][bound]["value"] == pytest.approx(exact, abs=1e-4)
    assert found["means"]["width"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["certificate"]["value"] == pytest.approx(exact - np.log(1 / 0.05) / 10, abs=1e-4)
    assert found["message"] in " ".join(text.split())
    assert "Given " in found["message"]
    assert "with probability 95 %" in found["message"]
    assert found["reliability"] == "reliable"
    assert (found["metadata"]["num_samples"], found["metadata"]["num_replicates"]) == (16, 3)
    with arviz.from_netcdf(str(tmp_path / "a.nc")).sample_stats as stats:
        assert stats["two_sided_upper"].values == pytest.approx(found["per_point"]["upper"])
        assert stats.attrs["two_sided_reliability"] == "reliable"


def test_train_names_its_own_way_to_give_settings(tmp_path: Path) -> None:
    message = refused("train", "vae(latent=2,guide=IAF)", "--data", "digits", "--out", tmp_path / "out")
    assert "write pyrovae train vae --set latent=2 --set guide=IAF" in message


def test_settings_of_what_is_not_asked_for_are_refused(run: Path) -> None:
    assert "--delta say how log p(x) is bounded from both sides: add --two-sided" in refused(
        "evaluate", run, "--delta", 0.1
    )
    assert "delta is 2.0: give a probability" in refused("evaluate", run, "--two-sided", "--delta", 2)


def test_a_tolerance_that_cannot_be_is_refused_before_anything_is_scored(run: Path) -> None:
    assert "tolerance is 0.0: give the standard error" in refused("evaluate", run, "--tolerance", 0)


def test_a_stopped_evaluate_goes_on(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    data = points(tmp_path / "many.npy", count=400)
    words = ("evaluate", copy, "--data", data, "--num-samples", 2000, "--json", tmp_path / "a.json")
    said(*words)
    whole = json.loads((tmp_path / "a.json").read_text())["points"]
    scored, batch = [], scoring.score_batch

    def stopped(x, *rest):
        scored.append(len(x))
        if len(scored) == 3:
            raise KeyboardInterrupt
        return batch(x, *rest)

    monkeypatch.setattr(scoring, "score_batch", stopped)
    assert "Points that are scored are kept" in refused(*words, code=130)
    assert (copy / "evaluate.partial.pt").is_file()
    said(*words)
    assert sum(scored) == 400 + scored[2]
    assert not (copy / "evaluate.partial.pt").exists()
    assert json.loads((tmp_path / "a.json").read_text())["points"] == whole


def test_evaluate_on_other_data_of_the_same_size(run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "far.npy", 100 + np.random.default_rng(1).normal(size=(50, 4)))
    said("evaluate", run, "--num-samples", 10, "--json", tmp_path / "own.json")
    said("evaluate", run, "--num-samples", 10, "--data", tmp_path / "far.npy", "--json", tmp_path / "far.json")
    own, far = (json.loads((tmp_path / f"{name}.json").read_text())["models"][0] for name in ("own", "far"))
    assert far["log_likelihood"] < own["log_likelihood"] - 100


def test_sample_as_numbers(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    assert said("sample", run, "--num-samples", 2000, "--out", path) == f"2000 draws of ppca: {path}\n"
    x = np.load(path)
    assert x.shape == (2000, 4)
    restored = pyrovae.load_run(run)
    cov = restored.model.W @ restored.model.W.T + (2 * restored.model.log_sigma).exp() * torch.eye(4)
    sd = (cov.diagonal() / 2000).sqrt().detach().numpy()
    assert np.all(np.abs(x.mean(axis=0) - restored.model.mu.detach().numpy()) < 6 * sd)
    said("sample", run, "--num-samples", 2000, "--out", path, "--mean")
    assert np.linalg.matrix_rank(np.load(path) - restored.model.mu.detach().numpy(), tol=1e-3) == 2  # Wz + μ
    assert "are no images: name a .csv file" in refused("sample", run, "--out", tmp_path / "x.png")


def test_sample_of_a_table_has_its_columns_and_units(tmp_path: Path) -> None:
    """Of a run on standardised columns too: the draws have the means and standard deviations of the file."""
    rng = np.random.default_rng(1)
    table = pandas.DataFrame({"age": rng.normal(40, 10, 300), "income": rng.normal(3e4, 8e3, 300)})
    table.to_csv(tmp_path / "people.csv", index=False)
    run = tmp_path / "run"
    said("train", "gaussian", "--data", tmp_path / "people.csv", "--transform", "standardise", "--out", run)
    assert said("sample", run, "--num-samples", 4000) == f"4000 draws of gaussian: {run / 'samples.csv'}\n"
    drawn = pandas.read_csv(run / "samples.csv")
    assert list(drawn) == ["age", "income"]
    for column, sd in (("age", 10.0), ("income", 8e3)):
        assert abs(drawn[column].mean() - table[column].mean()) < 0.3 * sd
        assert drawn[column].std() == pytest.approx(table[column].std(), rel=0.15)


def test_models_are_listed_with_their_equations() -> None:
    lines = said("models").splitlines()
    for name in available():
        assert any(line.split()[0] == name and (" ~ " in line or " = " in line) for line in lines if line.split())


def test_models_shows_the_options_of_one(tmp_path: Path) -> None:
    text = said("models", "ppca")
    assert text.startswith("ppca: Probabilistic PCA: z ~ N(0, I)")
    assert "  --set latent=" in text
    assert "  --set guide=ExactPosterior\n" in text
    (tmp_path / "mine.py").write_text(MINE)
    assert said("models", tmp_path / "mine.py").startswith("mine: z ~ N(0, 1), x|z ~ N(z, I).")


def test_version() -> None:
    assert said("--version") == f"{pyrovae.__version__}\n"


# bad input


def test_unknown_model_and_data(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "There is no model 'gmn' (did you mean 'gmm'?)" in refused("train", "gmn", "--out", out)
    assert "There is no model 'vea' (did you mean 'vae'?)" in refused("compare", "--models", "gmm,vea", "--out", out)
    assert "There is no data set 'digit' (did you mean 'digits'?)" in refused(
        "compare", "--data", "digit", "--out", out
    )
    assert "MNIST is not in" in refused("compare", "--data", "mnist", "--root", tmp_path)
    assert not out.exists()


def test_file_without_pair(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("x = 1\n")
    assert "does not define pair" in refused("train", tmp_path / "mine.py", "--out", tmp_path / "out")


def test_errors_of_many_lines_become_one(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise ValueError('a\\nb')\n")
    assert "cannot be run: ValueError: a b" in refused("train", tmp_path / "mine.py", "--out", tmp_path / "out")


def test_options_that_the_pair_does_not_have(tmp_path: Path) -> None:
    message = refused("train", "vae", "--set", "latnet=3", "--out", tmp_path / "out")
    assert "vae has no option 'latnet' (did you mean 'latent'?); its options are: latent=" in message
    message = refused("train", "vae", "--set", "guide=FullCovarianc", "--out", tmp_path / "out")
    assert "did you mean 'FullCovariance'?" in message


def test_bad_data(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(50, 4))
    x[3, 1] = np.nan
    np.save(tmp_path / "nan.npy", x)
    x[:, 1] = 2
    np.save(tmp_path / "constant.npy", x)
    np.savez(tmp_path / "x.npz", x)
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:300])
    said = refused("compare", "--data", tmp_path / "nan.npy", "--models", "pca")
    assert "nan.npy has no value at row 3, column 1, and pca takes no missing values: remove such rows" in said
    assert "are constant (column 1)" in refused("compare", "--data", tmp_path / "constant.npy")
    assert "it is truncated or not of that kind" in refused("compare", "--data", tmp_path / "x.npz")


def test_wrong_dimension_at_evaluate(run: Path, tmp_path: Path) -> None:
    message = refused("evaluate", run, "--data", points(tmp_path / "wide.npy", dim=5))
    assert "was trained on points of 4 numbers, and wide.npy has 5" in message


def test_fewer_points_than_components(tmp_path: Path) -> None:
    data = points(tmp_path / "few.npy", count=8)
    message = refused("compare", "--data", data, "--models", "gmm", "--epochs", 1)
    assert "10 components need at least as many" in message
    assert "there are 7" in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_no_cuda_though_asked() -> None:
    assert "CUDA was asked for and torch finds none: use --device cpu" in refused("compare", "--device", "cuda")


def test_unknown_device() -> None:
    assert "There is no device 'gpu': give auto, cpu, cuda, or one of" in refused("compare", "--device", "gpu")


def test_a_gpu_of_apple_has_no_double_precision() -> None:
    assert "Apple's GPUs (mps) have no double precision" in refused("compare", "--device", "mps")


def test_one_of_several_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert device_of("cuda:1") == torch.device("cuda:1") == chosen[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        with pytest.raises(pyrovae.InvalidInputError, match="torchrun gives each process a GPU of its own"):
            device_of("cuda:1")
    with pytest.raises(pyrovae.InvalidInputError, match="There is no cuda:2 on this machine: give cuda:0 to cuda:1"):
        device_of("cuda:2")


def test_corrupt_run(run: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    (tmp_path / "checkpoint.pt").write_bytes((run / "checkpoint.pt").read_bytes()[:-500])
    assert "checkpoint.pt cannot be read: it is truncated" in refused("evaluate", tmp_path)
    (tmp_path / "checkpoint.pt").unlink()
    assert "has no checkpoint.pt" in refused("sample", tmp_path, "--out", tmp_path / "x.npy")
    (tmp_path / "config.json").write_text("{")
    assert "config.json is damaged" in refused("evaluate", tmp_path)
    assert "is not a run" in refused("evaluate", tmp_path / "none")


def test_an_existing_out_is_replaced_only_if_told_and_ours(tmp_path: Path) -> None:
    data, out = points(tmp_path / "points.npy"), tmp_path / "out"
    words = ["train", "ppca", "--data", data, "--epochs", 1, "--out", out]
    said(*words)
    first = (out / "checkpoint.pt").read_bytes()
    assert "exists: name another folder, or say --overwrite" in refused(*words, "--seed", 1)
    assert (out / "checkpoint.pt").read_bytes() == first
    said(*words, "--seed", 1, "--overwrite")
    assert (out / "checkpoint.pt").read_bytes() != first
    words = ["compare", "--models", "ppca", "--data", data, "--epochs", 1, "--num-samples", 10, "--out", out]
    assert "exists" in refused(*words)
    said(*words, "--overwrite")
    assert not (out / "checkpoint.pt").exists()  # nothing of the earlier run is left among the new
    said(*words, "--overwrite")
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "config.json").write_text('{"mine": true}')
    words = ["train", "ppca", "--data", data, "--out", other, "--overwrite"]
    assert "is not a run of pyrovae, and is left as it is" in refused(*words)
    assert (other / "config.json").read_text() == '{"mine": true}'


def test_where_nothing_can_be_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrovae.evaluation.evaluating.evaluate", lambda *_, **__: pytest.fail("it was scored"))
    assert "The folder of" in refused("evaluate", run, "--json", tmp_path / "none" / "a.json")
    assert "The folder of" in refused("evaluate", run, "--netcdf", tmp_path / "none" / "a.nc")
    assert "is a folder: name a file" in refused("evaluate", run, "--json", tmp_path)
    assert "The folder of" in refused("sample", run, "--out", tmp_path / "none" / "x.npy")
    monkeypatch.setattr(runs, "train_run", lambda *_: pytest.fail("it was trained"))
    assert "The folder of" in refused("compare", "--models", "ppca", "--json", tmp_path / "none" / "a.json")
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)  # root may write anywhere
    assert f"Nothing can be written to {tmp_path}" in refused("evaluate", run, "--json", tmp_path / "a.json")


def test_divergence_is_no_usage_error(tmp_path: Path) -> None:
    data = points(tmp_path / "points.npy")
    words = ["train", "vae", "--data", data, "--lr", 1e30, "--epochs", 5, "--out", tmp_path / "run"]
    assert "Training stopped at step" in refused(*words, code=1)


# by the file descriptors; the last in a process of its own


def test_piped_output_has_no_bars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = points(tmp_path / "points.npy")
    monkeypatch.chdir(tmp_path)
    words = ("compare", "--data", data, "--models", "ppca", "--epochs", 2, "--num-samples", 10)
    code, stdout, stderr = python_m(capfd, *words)
    assert (code, stderr) == (0, "")
    assert not set(BARS) & set(stdout)
    assert "log p̂(x)" in stdout
    assert [path.name for path in tmp_path.iterdir()] == ["points.npy"]  # nothing is written unasked


def test_a_refusal_is_one_line_on_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, stdout, stderr = python_m(capfd, "train", "gmn", "--out", tmp_path / "x")
    assert (code, stdout) == (2, "")
    assert "did you mean 'gmm'?" in one_sentence(stderr)


def test_ctrl_c_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    data, out = points(tmp_path / "points.npy"), tmp_path / "run"
    words = ("train", "ppca", "--data", data, "--out", out, "--set", "latent=2", "--epochs", 10_000_000, "--no-compile")
    script = Script("pyrovae", *words, out=tmp_path / "printed.txt", module=True)
    deadline = time.monotonic() + 240  # the machine may be busy
    while not (out / "checkpoint.pt").exists() and script.process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(script.process.pid, signal.SIGINT)
    assert script.end(30) == 130
    assert (
        "stopped; if RUN has a checkpoint, `pyrovae train --resume RUN` goes on, and `pyrovae evaluate RUN` reads it"
        in one_sentence(script.errors())
    )
    assert {path.name for path in out.iterdir()} <= {
        *("config.json", "checkpoint.pt", "checkpoint.previous.pt", "metrics.csv")
    }
    result = invoke("evaluate", out, "--num-samples", 10)
    assert "ppca" in result.stdout
    assert re.search(r"training of \S+ was stopped after \d+ of 10000000 epochs", one_sentence(result.stderr))


def test_a_model_file_inside_the_folder_that_it_replaces(tmp_path: Path) -> None:
    """The run's own copy of the model is trained again in the run's place."""
    data = points(tmp_path / "points.npy")
    (tmp_path / "mine.py").write_text(MINE)
    said("train", tmp_path / "mine.py", "--data", data, "--epochs", 1, "--out", tmp_path / "run")
    again = ("train", tmp_path / "run" / "model.py", "--data", data, "--epochs", 1, "--out", tmp_path / "run")
    said(*again, "--overwrite")
    assert "model" in said("evaluate", tmp_path / "run", "--num-samples", 5)


def test_other_data_are_scored_whole(tmp_path: Path, run: Path) -> None:
    other = points(tmp_path / "other.npy", count=30)
    said("evaluate", run, "--num-samples", 5, "--data", other, "--json", tmp_path / "a.json")
    metadata = json.loads((tmp_path / "a.json").read_text())["metadata"]
    assert metadata["points"] == 30
    assert metadata["split"] == "all 30 points of the file"


def test_a_binary_run_on_real_data_is_refused_by_its_values(tmp_path: Path) -> None:
    np.save(tmp_path / "binary.npy", (np.random.default_rng(0).random((40, 4)) > 0.5).astype(float))
    said("train", "vae", "--data", tmp_path / "binary.npy", "--epochs", 1, "--out", tmp_path / "run")
    words = refused("evaluate", tmp_path / "run", "--num-samples", 5, "--data", points(tmp_path / "real.npy"))
    assert "Row 0, column 0 has the value 0.12573, and the transform (as given) takes 0 or 1" in words


def test_samples_are_no_text(run: Path, tmp_path: Path) -> None:
    assert "neither .png, .npy, .csv nor .parquet: name a file" in refused("sample", run, "--out", tmp_path / "x.txt")


def test_training_that_ends_below_where_it_began_is_said(tmp_path: Path) -> None:
    data = points(tmp_path / "points.npy")
    words = ("train", "ppca", "--data", data, "--epochs", 3, "--lr", 5, "--out", tmp_path / "run")
    result = invoke(*words)
    assert result.exit_code == 0
    assert "ppca: Training ended at an ELBO of -" in one_sentence(result.stderr)


def test_a_likelihood_without_zero_in_its_support_is_read_back(tmp_path: Path) -> None:
    text = MINE.replace("dist.Normal(z.expand", "dist.LogNormal(z.expand")
    assert text != MINE
    (tmp_path / "mine.py").write_text(text)
    np.save(tmp_path / "positive.npy", np.random.default_rng(0).lognormal(size=(40, 4)))
    said("train", tmp_path / "mine.py", "--data", tmp_path / "positive.npy", "--epochs", 1, "--out", tmp_path / "run")
    assert "mine" in said("evaluate", tmp_path / "run", "--num-samples", 5)


def test_json_may_lie_inside_the_new_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    said("compare", "--models", "ppca", "--epochs", 1, "--num-samples", 5, "--out", out, "--json", out / "all.json")
    assert json.loads((out / "all.json").read_text())["models"]


def test_a_stopped_overwrite_leaves_the_earlier_run(tmp_path: Path) -> None:
    data, out = points(tmp_path / "points.npy"), tmp_path / "run"
    said("train", "ppca", "--data", data, "--epochs", 2, "--out", out)
    before = (out / "checkpoint.pt").read_bytes()
    words = refused("train", "vae", "--data", data, "--epochs", 99, "--lr", 1e30, "--out", out, "--overwrite", code=1)
    assert "Training stopped at step" in words
    assert "The earlier run is back in" in words
    assert (out / "checkpoint.pt").read_bytes() == before


def test_a_finished_run_says_what_can_be_done_and_that_can_be_done(tmp_path: Path) -> None:
    data, out = points(tmp_path / "points.npy"), tmp_path / "run"
    said("train", "vae", "--data", data, "--set", "hidden=8", "--epochs", 40, "--out", out)
    before = (out / "metrics.csv").read_text()
    text = said("train", "--resume", out)
    told = f"run = pyrovae.load_run('{out}'); pyrovae.fit(run.model, run.guide, x, epochs=…)"
    assert text.startswith(
        f"vae: finished after 40 epochs, nothing is left to resume; a new course from where it stands is, in Python, {told}.\n"
    )
    assert (out / "metrics.csv").read_text() == before
    message = refused("train", "--resume", out, "--epochs", 80)
    assert "leave out --epochs; a new course from where it stands" in message
    assert "a new course" not in refused("train", "--resume", out, "--lr", 1)
    run, x = pyrovae.load_run(out), pyrovae.load_data(data).train
    with torch.no_grad():
        elbo = pyrovae.evaluate(run.model, run.guide, x, num_samples=200).mean_elbo
    fit = pyrovae.fit(run.model, run.guide, x, epochs=1)
    assert abs(fit.initial_elbo - elbo.value) < 6 * fit.initial_elbo_se  # it begins where the run stood
    assert fit.initial_elbo > float(before.splitlines()[1].split(",")[3])  # which is above where the run began


def test_a_run_that_was_stopped_is_not_called_finished(tmp_path: Path) -> None:
    data, out = points(tmp_path / "points.npy"), tmp_path / "run"
    said("train", "ppca", "--data", data, "--set", "latent=2", "--epochs", 2, "--out", out)
    config = json.loads((out / "config.json").read_text())
    config["fit_arguments"]["epochs"] = 3
    (out / "config.json").write_text(json.dumps(config))
    assert "finished" not in said("train", "--resume", out)
