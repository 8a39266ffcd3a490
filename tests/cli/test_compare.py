"""pyrovae compare: pairs that fail on the way, and pairs with settings of their own."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import invoke, one_sentence, said

import pyrovae
from pyrovae import InvalidInputError, load
from pyrovae.loading.options import listed, with_settings
from pyrovae.runs import run as runs
from pyrovae.utils.random import derived_seed

WILD = """from pyrovae.models.vae import pair
TRAINING_DEFAULTS = {"epochs": 5, "lr": 1e30}
"""
UNSCORED = """import pyrovae
from pyrovae.models import ppca
TRAINING_DEFAULTS = {"epochs": 1}
def pair(dim):
    model, guide = ppca.pair(dim, 2)
    class Unscored(type(model)):
        def log_prob(self, x):
            raise ArithmeticError("no such\\nnumber")
    model.__class__ = Unscored
    return model, guide
"""


def failed(*words: object, code: int) -> tuple[str, str]:
    """What is printed, and the one sentence on standard error."""
    result = invoke(*words)
    assert result.exit_code == code, result.output
    return result.stdout, one_sentence(result.stderr)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(50, 4)))
    return tmp_path / "points.npy"


def test_a_pair_that_fails_leaves_the_others_rows(data: Path, tmp_path: Path) -> None:
    """One diverges in training, one when it is scored: the rows of the rest are those of a comparison without them."""
    (tmp_path / "wild.py").write_text(WILD)
    (tmp_path / "unscored.py").write_text(UNSCORED)
    words = ("--data", data, "--epochs", 2, "--num-samples", 10)
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
    monkeypatch.setattr(runs, "train_run", lambda *_: pytest.fail("it was trained"))
    words = ("--models", "ppca,conditional_vae", "--data", data, "--out", tmp_path / "out")
    _, sentence = failed("compare", *words, code=2)
    assert "ppca observes 4 numbers of each point and conditional_vae 3" in sentence
    assert not (tmp_path / "out").exists()


def test_a_narrow_terminal_shows_failures_too(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wild.py").write_text(WILD)
    monkeypatch.setenv("COLUMNS", "60")
    words = ("--data", data, "--epochs", 2, "--num-samples", 10)
    text, _ = failed("compare", "--models", f"{tmp_path / 'wild.py'},ppca", *words, code=1)
    assert ["model", "ppca", "wild"] in [line.split() for line in text.splitlines()]
    assert any(line.split()[:3] == ["±", "Monte", "Carlo"] and line.split()[-1] == "–" for line in text.splitlines())


def test_where_none_is_left_there_is_no_table(data: Path, tmp_path: Path) -> None:
    (tmp_path / "wild.py").write_text(WILD)
    (tmp_path / "unscored.py").write_text(UNSCORED)
    words = ("--data", data, "--num-samples", 10, "--out", tmp_path / "out")
    _, sentence = failed("compare", "--models", f"{tmp_path / 'unscored.py'}", *words, code=2)
    assert sentence.startswith("pyrovae: model.log_prob(x) failed")
    models = f"{tmp_path / 'wild.py'},{tmp_path / 'unscored.py'}"
    text, sentence = failed("compare", "--models", models, *words, "--overwrite", code=1)
    assert text == ""
    assert "Every pair failed, wild: Training stopped at" in sentence
    assert "; unscored: model.log_prob(x) failed" in sentence


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("gmm, ppca", ["gmm", "ppca"]),
        ("gmm,vae(hidden=200,200, guide=IAF),all", ["gmm", "vae(hidden=200,200, guide=IAF)", "all"]),
        ("vae(likelihood=FixedNormal(0.1), hidden=(3, 4)),a", ["vae(likelihood=FixedNormal(0.1), hidden=(3, 4))", "a"]),
    ],
)
def test_commas_in_brackets_separate_no_pairs(text: str, parts: list[str]) -> None:
    assert listed(text) == parts


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("gmm", "gmm", []),
        ("gmm()", "gmm", []),
        ("vae(hidden=200,200,guide = IAF)", "vae", ["hidden=200,200", "guide=IAF"]),
        ("vae (likelihood=FixedNormal(scale=0.1))", "vae", ["likelihood=FixedNormal(scale=0.1)"]),
        (
            "my(1)/a.py(guide=x/own.py:Wide(3), hidden=(3, 4))",
            "my(1)/a.py",
            ["guide=x/own.py:Wide(3)", "hidden=(3, 4)"],
        ),
        ("my(1)/a.py", "my(1)/a.py", []),
        ("vae(4)", "vae", ["4"]),
    ],
)
def test_settings_stand_in_brackets_after_the_name(text: str, name: str, settings: list[str]) -> None:
    assert with_settings(text) == (name, settings)


@pytest.mark.parametrize("text", ["vae(latent=4", "vae)latent=4("])
def test_a_bracket_without_its_partner(text: str) -> None:
    with pytest.raises(InvalidInputError, match="has a bracket without its partner: write name"):
        listed(text)


def test_settings_are_refused_as_those_of_train_are(data: Path) -> None:
    def sentence(models: str) -> str:
        return failed("compare", "--models", models, "--data", data, code=2)[1]

    assert "vae has no option 'latnet' (did you mean 'latent'?)" in sentence("ppca,vae(latnet=3)")
    assert "'4' is not an option: write name=value" in sentence("vae(4)")
    assert "There is no model 'vea'" in sentence("vea(latent=3)")
    assert "names a model twice: give each once, or with other settings" in sentence(
        "ppca(latent=2),ppca( latent = 2 )"
    )
    assert "all takes no settings" in sentence("all(latent=2)")


def test_a_model_stands_under_several_settings_with_the_numbers_of_pairs_made_by_hand(
    data: Path, tmp_path: Path
) -> None:
    settings = ["vae(latent=2, hidden=8,8)", "vae(latent=2, hidden=8,8, guide=FullCovariance)", "gmm(components=2)"]
    out = tmp_path / "out"
    words = ("--data", data, "--epochs", 2, "--num-samples", 20, "--seed", 3)
    text = said("compare", "--models", ",".join(settings), *words, "--json", tmp_path / "a.json", "--out", out)
    rows = json.loads((tmp_path / "a.json").read_text())["models"]
    assert [row["name"] for row in rows] == settings
    points = pyrovae.load_data(data)
    options = [
        {"latent": 2, "hidden": (8, 8)},
        {"latent": 2, "hidden": (8, 8), "guide": pyrovae.guides.FullCovariance},
        {"components": 2},
    ]
    for row, told in zip(rows, options, strict=True):
        pair = load(row["name"].partition("(")[0])
        torch.manual_seed(3)
        model, guide = pair(points.dim, **told)
        recipe = {key: value for key, value in pair.recipe.items() if key in ("lr", "batch_size")}
        fit = pyrovae.fit(model, guide, points.train, epochs=2, seed=3, **recipe)
        seed = derived_seed(3, zlib.crc32(row["name"].encode()))  # whatever its place
        evidence = pyrovae.evaluate(model, guide, points.test, 20, seed=seed)
        assert row["losses"] == fit.losses
        assert row["log_likelihood"] == evidence.mean_log_likelihood.value
        assert row["elbo"] == evidence.mean_elbo.value
    assert rows[0]["elbo"] != rows[1]["elbo"]
    folders = ["vae-latent=2-hidden=8-8", "vae-latent=2-hidden=8-8-guide=FullCovariance", "gmm-components=2"]
    assert {path.name for path in out.iterdir() if path.is_dir()} == set(folders)
    assert json.loads((out / "config.json").read_text())["models"] == folders
    assert type(pyrovae.load_run(out / folders[1]).guide).__name__ == "FullCovariance"
    _, sentence = failed("evaluate", out, code=2)
    assert str(out / folders[0]) in sentence
    lines = [line.rstrip() for line in text.splitlines()]
    place = next(place for place, line in enumerate(lines) if line.startswith(" vae(latent=2,"))
    assert lines[place + 1 : place + 2] == ["   hidden=8,8)"]  # a long name goes on below


def test_the_file_that_a_setting_names_is_a_name_without_folders(data: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import pyrovae\nclass Mine(pyrovae.guides.MeanField): pass\n")
    words = (
        "--data",
        data,
        "--epochs",
        1,
        "--num-samples",
        10,
        "--json",
        tmp_path / "a.json",
        "--out",
        tmp_path / "out",
    )
    said("compare", "--models", f"ppca(guide={tmp_path / 'own.py'}:Mine)", *words)
    assert json.loads((tmp_path / "a.json").read_text())["models"][0]["name"] == "ppca(guide=own.py:Mine)"
    assert type(pyrovae.load_run(tmp_path / "out" / "ppca-guide=own.py-Mine").guide).__name__ == "Mine"


def test_paper_is_as_wide_as_a_table_of_long_names() -> None:
    """No number is cut off, and none stands beside another's heading."""
    models = "gmvae(likelihood=DiscretisedLogistic(levels=17)),vae(likelihood=DiscretisedLogistic(levels=17),latent=3)"
    text = said("compare", "--epochs", 1, "--num-samples", 10, "--transform", "levels", "--models", models)
    lines = [line.rstrip() for line in text.splitlines()]
    heading = next(line for line in lines if line.startswith(" model"))
    assert heading.endswith("seconds")
    rows = [line for line in lines if line.startswith((" gmvae(likelihood", " vae(likelihood"))][:2]
    assert all("…" not in row and len(row) == len(heading) for row in rows)


def test_runs_stand_beside_names_and_are_not_trained_again(data: Path, tmp_path: Path) -> None:
    """A run's number is that of `compare` in Python on the loaded run; a name beside it is trained on the run's data."""
    said("train", "ppca", "--data", data, "--epochs", 3, "--split-seed", 3, "--out", tmp_path / "a")
    said("train", "ppca", "--data", data, "--epochs", 2, "--split-seed", 3, "--out", tmp_path / "b")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    words = ("--num-samples", 10, "--seed", 4, "--json", tmp_path / "all.json", "--out", tmp_path / "out")
    said("compare", tmp_path / "a", "ppca", tmp_path / "b", *words)
    content = json.loads((tmp_path / "all.json").read_text())
    run, other = (pyrovae.load_run(tmp_path / name) for name in ("a", "b"))
    x = runs.data_of(run).test
    python = pyrovae.compare({str(tmp_path / "a"): run, str(tmp_path / "b"): other}, x, 10, seed=4)
    names = [str(tmp_path / "a"), "ppca", str(tmp_path / "b")]
    assert [row["name"] for row in content["models"]] == names
    for row in (content["models"][0], content["models"][2]):
        assert row["log_likelihood"] == python.evidence[row["name"]].mean_log_likelihood.value
        assert row["losses"] == python.fits[row["name"]].losses
    assert content["metadata"]["split_seed"] == 3
    assert content["models"][1]["losses"]
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == ["ppca"]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["runs"] == [names[0], names[2]]
    assert pyrovae.load_run(tmp_path / "out" / "ppca").config.split_seed == 3


def test_runs_that_cannot_stand_beside_each_other(data: Path, tmp_path: Path) -> None:
    words = ("ppca", "--data", data, "--epochs", 1)
    said("train", *words, "--out", tmp_path / "a")
    said("train", *words, "--split-seed", 1, "--out", tmp_path / "b")
    a, b = tmp_path / "a", tmp_path / "b"
    assert "split seed 0) and" in failed("compare", a, b, code=2)[1]
    assert "leave out --data, --split-seed" in failed("compare", a, "--data", data, "--split-seed", 0, code=2)[1]
    assert "is named twice: name each run once" in failed("compare", a, f"{a}/", code=2)[1]
    assert "Runs are not trained again: leave out --epochs" in failed("compare", a, "--epochs", 3, code=2)[1]
    assert "is not a run" in failed("compare", a, tmp_path, code=2)[1]


def test_names_stand_alone_or_between_commas(data: Path, tmp_path: Path) -> None:
    words = ("--data", data, "--epochs", 1, "--num-samples", 10, "--json", tmp_path / "a.json")
    said("compare", "gaussian,ppca(latent=1,guide=MeanField)", "gmm(components=2)", "--models", "ppca", *words)
    names = ["gaussian", "ppca(latent=1, guide=MeanField)", "gmm(components=2)", "ppca"]
    assert [row["name"] for row in json.loads((tmp_path / "a.json").read_text())["models"]] == names


def test_pairs_are_trained_from_several_seeds(data: Path, tmp_path: Path) -> None:
    """A training of seed s is that of `--seed s` alone; a run beside it is not trained, and has no error over trainings."""
    said("train", "gaussian", "--data", data, "--out", tmp_path / "run")
    words = ("--num-samples", 10, "--epochs", 2)
    many = ("--seed", 3, "--train-seeds", 2, "--json", tmp_path / "a.json", "--out", tmp_path / "out")
    text = said("compare", "vae(hidden=4,)", tmp_path / "run", *words, *many)
    content = json.loads((tmp_path / "a.json").read_text())
    vae, run = content["models"]
    said("compare", "vae(hidden=4,)", *words, "--data", data, "--seed", 4, "--out", tmp_path / "alone")
    second, alone = (
        pyrovae.load_run(tmp_path / folder) for folder in ("out/vae-hidden=4-training-2", "alone/vae-hidden=4")
    )
    assert second.fit_result.losses == alone.fit_result.losses
    assert vae["name"] == "vae(hidden=4,)"
    assert len(vae["trainings"]) == 2
    assert vae["log_likelihood"] == pytest.approx(sum(vae["trainings"]) / 2)
    assert vae["log_likelihood_train_se"] > 0
    assert run["log_likelihood_train_se"] is None
    assert content["metadata"]["train_seeds"] == [3, 4]
    assert "trainings from seeds 3 to 4" in " ".join(text.split())


def test_what_cannot_be_trained_several_times(data: Path, tmp_path: Path) -> None:
    said("train", "gaussian", "--data", data, "--out", tmp_path / "run")
    message = failed("compare", tmp_path / "run", "--train-seeds", 2, code=2)[1]
    assert "Runs are not trained again: leave out --train-seeds" in message
    (tmp_path / "own.py").write_text(
        "import pyro, pyro.distributions as dist, torch\n"
        "def pair(dim):\n"
        "    def model(x):\n"
        "        loc = pyro.param('loc', torch.zeros(dim))\n"
        "        with pyro.plate('data', len(x)):\n"
        "            pyro.sample('x', dist.Normal(loc, 1.0).to_event(1), obs=x)\n"
        "    return model, lambda x: None\n"
    )
    message = failed("compare", tmp_path / "own.py", "--data", data, "--train-seeds", 2, code=2)[1]
    assert "own keeps its parameters in Pyro's global store" in message


def test_an_order_is_decided_as_in_python(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("--data", data, "--epochs", 2, "--out", out)
    text = said("compare", "gaussian", "ppca", "linear_vae", *words, "--decide", "--tie-tolerance", 0.05)
    content = json.loads((out / "comparison.json").read_text())
    found = {name: pyrovae.load_run(out / name) for name in ("gaussian", "ppca", "linear_vae")}
    x = pyrovae.load_data(data).test
    python = pyrovae.decide(pyrovae.compare(found, x), found, x, tie_tolerance=0.05)
    assert content["decision"] == json.loads(json.dumps(python.to_dict()))
    assert python.message in " ".join(text.split())


def test_what_cannot_be_decided_is_refused_before_anything_is_trained(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "train_run", lambda *_: pytest.fail("it was trained"))

    def sentence(*words: object) -> str:
        return failed("compare", "gaussian,ppca", "--data", data, *words, code=2)[1]

    assert "--tie-tolerance say how an order is decided: add --decide" in sentence("--tie-tolerance", 0.1)
    assert "leave out --train-seeds, or --decide" in sentence("--decide", "--train-seeds", 2)
    assert "leave out --num-samples, or add --tolerance" in sentence("--decide", "--num-samples", 10)
    assert "error_rate is 2.0: give a probability" in sentence("--decide", "--error-rate", 2)


def test_the_work_for_each_model_is_limited(data: Path, tmp_path: Path) -> None:
    """With next to no time, points have the bound of the guide's draws; an exact log p(x) needs no time."""
    words = ("--models", "gaussian,vae(latent=2)", "--data", data, "--epochs", 2)
    result = invoke("compare", *words, "--max-seconds", 1e-9, "--json", tmp_path / "a.json")
    assert result.exit_code == 0, result.output
    gaussian, vae = json.loads((tmp_path / "a.json").read_text())["models"]
    assert gaussian["method"] == "exact"
    assert vae["method"] == "importance_sampling"
    result = invoke("compare", *words, "--max-draws", 200, "--tolerance", 1e-4, "--json", tmp_path / "b.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "b.json").read_text())["models"][1]["num_draws"] == 200


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--max-seconds", "max_seconds is 0.0: give a number of seconds above 0, such as 60.\n"),
        (
            "--tolerance",
            "tolerance is 0.0: give the standard error in nats that each point is to have, such as 0.05.\n",
        ),
    ],
)
def test_a_setting_of_the_scores_is_checked_before_anything_is_trained(
    option: str, sentence: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrovae.cli.commands.compare.train_with_progress", lambda *_: pytest.fail("it was trained"))
    assert failed("compare", "--data", data, option, 0, code=2)[1] == f"pyrovae: {sentence}"


def test_a_decision_and_a_limit_of_the_work_are_refused_together(data: Path) -> None:
    _, sentence = failed("compare", "--data", data, "--decide", "--max-seconds", 60, code=2)
    assert sentence == "pyrovae: --decide adds draws until the order is known: leave out --max-seconds.\n"
