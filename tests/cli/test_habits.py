"""What users of a command line expect of every command: examples, 80 columns, --quiet, --verbose, a folder without being asked."""

import json
import shlex
from pathlib import Path

import pytest
import torch
from command_line import invoke, refused, said
from typer.main import get_command

from pyrovae.cli.app import COMMANDS, app
from pyrovae.cli.examples import EXAMPLES


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_in_examples_that_the_command_understands(name):
    text = invoke(name, "--help").stdout
    assert text.rstrip().endswith("\n".join(f"    {line}" for line in EXAMPLES[name]))
    for line in EXAMPLES[name]:
        program, used, *words = shlex.split(line)
        assert (program, used) == ("pyrovae", name)
        get_command(app).commands[name].make_context(name, words)  # a UsageError for an option that does not exist


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_into_80_columns(name):
    lines = invoke(*filter(None, [name]), "--help").stdout.splitlines()
    assert not [line for line in lines if len(line) > 80]


def test_completion_can_be_installed():
    assert "--install-completion" in said("--help")


POINTS = torch.linspace(0, 1, 40)[:, None].expand(40, 2) + torch.eye(40)[:, :2]


def test_train_names_a_folder_and_does_not_take_one_that_exists():
    Path("points.csv").write_text("\n".join(",".join(map(str, row)) for row in POINTS.tolist()))
    for folder in ("runs/gaussian", "runs/gaussian-2"):
        assert f"kept in {folder}\n" in said("train", "gaussian", "--data", "points.csv", "--epochs", 1)
        assert json.loads(Path(folder, "config.json").read_text())["model"] == "gaussian"


def test_a_run_holds_every_option_that_it_was_made_with():
    said("train", "vae", "--set", "latent=3", "--epochs", "0")
    options = json.loads(Path("runs/vae/config.json").read_text())["resolved_options"]
    assert options["latent"] == "3"  # as given
    assert options["hidden"] == "200,200"  # the default
    assert options["likelihood"] == "PixelNormal"  # what the model has where the default is None
    assert "guide=MeanField" in said("train", "vae", "--epochs", "0")


def test_quiet_keeps_warnings_back_and_verbose_adds_the_log_and_tracebacks():
    arguments = ("train", "vae", "--epochs", 3, "--lr", 3, "--set", "latent=2")
    assert "pyrovae: vae:" in invoke(*arguments).stderr  # the ELBO has fallen
    assert invoke(*arguments, "--quiet").stderr == ""
    assert "Traceback" in invoke("evaluate", "nowhere", "--verbose").stderr
    assert "Traceback" not in invoke("evaluate", "nowhere").stderr
    assert "leave one out" in refused("models", "--quiet", "--verbose")
