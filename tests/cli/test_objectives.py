"""--objective: read without running it, remembered by the run, taken up again."""

import csv
import json
import math

import pytest
from typer.testing import CliRunner

import pyrovae
from pyrovae import InvalidInputError, load_run
from pyrovae.cli.app import app
from pyrovae.loading.options import parse_objective
from pyrovae.runs import run as runs

SHORT = ["--epochs", "2", "--set", "hidden=10", "--set", "latent=2", "--batch-size", "500"]


def run(*arguments):
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("DReG(50)", "DReG(50)"),
        (" IWAE( num_samples = 5 ) ", "IWAE(5)"),
        ("Renyi(-0.5, 3)", "Renyi(-0.5, 3)"),
        ("Beta(4)", "Beta(4)"),
        ("FreeBits(0.1)", "FreeBits(0.1)"),
        ("WakeSleep", "WakeSleep(1, 0)"),
        ("WakeSleep(5, insomnia=0.5)", "WakeSleep(5, 0.5)"),
    ],
)
def test_a_text_is_the_object_that_it_names(text, written):
    assert repr(parse_objective(text)) == written


def test_pyros_own_are_named_too():
    assert type(parse_objective("Trace_ELBO(num_particles=3)")).__name__ == "Trace_ELBO"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("IWEA(5)", r"There is no objective 'IWEA\(5\)' \(did you mean 'IWAE'\?\)"),
        ("MeanField(4, 2)", "There is no objective"),
        ("Objective()", "There is no objective"),
        ("__import__('os').getcwd()", "There is no objective"),
        ("IWAE(__import__('os'))", "must be called with plain values"),
        ("IWAE", r"cannot be made: .*it is called as IWAE\(num_samples\)"),
        ("IWAE(0)", "at least 1"),
        ("50", "There is no objective '50'"),
    ],
)
def test_what_is_none_is_refused_with_what_there_is(text, said):
    with pytest.raises(InvalidInputError, match=said):
        parse_objective(text)


def test_a_run_remembers_its_objective_and_resumes_by_it(tmp_path):
    """Stopped after an epoch and taken up, it ends where the uninterrupted run does."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = run("vae", *SHORT, "--objective", "DReG(3)", "--out", whole)
    assert done.exit_code == 0, done.output
    found = load_run(whole)
    assert found.config.fit_arguments["objective"] == "DReG(3)"
    assert found.fit_result.objective == "DReG(3)"
    last = found.fit_result.history[-1]
    assert f"training ELBO {last['elbo']:.3f}, training loss {last['loss']:.3f} nats per point, DReG(3)" in done.output
    assert last["elbo"] < -last["loss"]
    with (whole / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["elbo"]) == last["elbo"]
    assert float(rows[-1]["loss"]) == found.fit_result.losses[-1]

    class Killed(Exception):
        pass

    def stop(fit):
        raise Killed

    half = runs.prepare_run(
        pyrovae.load("vae"), pyrovae.load_data("digits"), source="digits", transform=None, root=None,
        options=["hidden=10", "latent=2"], seed=0, epochs=2, batch_size=500, objective="DReG(3)",
    )  # fmt: skip
    runs.CHECKPOINT_SECONDS, before = 0.0, runs.CHECKPOINT_SECONDS
    try:
        with pytest.raises(Killed):
            runs.train_run(half, pyrovae.load_data("digits"), cut, stop)
    finally:
        runs.CHECKPOINT_SECONDS = before
    resume_run = run("--resume", cut)
    assert resume_run.exit_code == 0, resume_run.output
    assert load_run(cut).fit_result.losses == found.fit_result.losses

    config = json.loads((cut / "config.json").read_text())
    config["fit_arguments"].update(objective="IWAE(3)", epochs=3)
    (cut / "config.json").write_text(json.dumps(config))
    other = run("--resume", cut)
    assert other.exit_code == 2
    assert "a training with other objective" in other.output


def test_what_cannot_be_is_said_before_anything_is_written(tmp_path):
    done = run("gmm", "--objective", "IWAE(3)", "--out", tmp_path / "gmm")
    assert done.exit_code == 2
    assert "is drawn without reparameterisation" in done.output
    assert not (tmp_path / "gmm").exists()
    done = run("vae", *SHORT, "--objective", "Beta(0)", "--out", tmp_path / "vae")
    assert done.exit_code == 0
    assert "training loss" in done.output
    assert "training ELBO" not in done.output
    assert math.isnan(load_run(tmp_path / "vae").fit_result.history[-1]["elbo"])
