"""`pyrovae new`: what it writes keeps the contract, and is what the commands take."""

from pathlib import Path

import pytest
import torch
from command_line import refused, said

import pyrovae
from pyrovae.loading.user_files import module_of


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("dim", [1, 5])
def test_the_model_keeps_the_contract(dim):
    said("new", "my_model.py")
    builder = pyrovae.load("my_model.py")
    assert builder.summary.startswith("MyModel: z ~ N(0, I)")
    pyrovae.check_pair(*builder(dim), torch.rand(12, dim))
    pyrovae.check_pair(*builder(dim, latent=1, hidden=()), torch.rand(12, dim))


def test_the_guide_keeps_the_contract():
    said("new", "guide.py")
    guide = module_of(Path("guide.py")).Guide(5, latent=2)
    pyrovae.check_pair(pyrovae.load("ppca")(5, latent=2)[0], guide, torch.rand(12, 5))


def test_the_commands_that_it_names_work():
    """Each with few epochs."""
    for file in ("heavy.py", "my_guide.py"):
        printed = said("new", file)
        commands = [line.split() for line in printed.splitlines() if line.startswith("  pyrovae ")]
        assert commands
        for words in commands:
            said(*words[1:], "--epochs", "1", *(["--num-samples", "5"] if "compare" in words else []))


def test_the_kind_can_be_named():
    said("new", "mine.py", "--kind", "guide")
    assert issubclass(module_of(Path("mine.py")).Mine, pyrovae.guides.Amortised)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("mine.txt",), "end its name in .py"),
        (("1.py",), "beginning with a letter"),
        (("there.py",), "choose another name"),
        (("mine.py", "--kind", "prior"), "give model or guide"),
        (("nowhere/mine.py",), "make it first"),
    ],
)
def test_what_cannot_be_written_is_refused(words, sentence, tmp_path):
    (tmp_path / "there.py").write_text("")
    assert sentence in refused("new", *words)
    assert (tmp_path / "there.py").read_text() == ""
