"""CONTRIBUTING.md is run: skeletons keep the contract, what is WRONG gets the sentence quoted, what is RIGHT passes."""

import re
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyrovae
from pyrovae import InvalidInputError, check_pair, evaluate
from pyrovae.loading.user_files import module_of

PAGE = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()
FENCED = re.compile(r"```python\n(.*?)```", re.DOTALL)
SKELETONS, MISTAKES = PAGE.split("## Mistakes, WRONG and RIGHT")
SECTIONS = dict(section.split("\n", 1) for section in MISTAKES.split("\n### ")[1:])


def blocks(text):
    return FENCED.findall(text)


def skeleton(start):
    [found] = [block for block in blocks(SKELETONS) if block.startswith(start)]
    return found


@pytest.fixture
def names(tmp_path):
    """What a block finds: the skeleton's pair, and x."""
    file = tmp_path / "mine.py"
    file.write_text(skeleton('"""Mine'))
    model, guide = module_of(file).pair(4)
    x = ((torch.arange(48.0) + 0.5) / 48).reshape(12, 4)
    return {
        "pyro": pyro,
        "dist": dist,
        "torch": torch,
        "nn": nn,
        "pyrovae": pyrovae,
        "model": model,
        "guide": guide,
        "x": x,
    }


def run(block, names):
    exec(compile(block, "CONTRIBUTING.md", "exec"), names)
    check_pair(names["model"], names["guide"], names["x"])


def one_line(text):
    return " ".join(text.split())


def test_every_mistake_has_both_and_a_sentence():
    assert len(SECTIONS) >= 10
    for title, text in SECTIONS.items():
        wrong, right = blocks(text)
        assert wrong.startswith("# WRONG\n"), title
        assert right.startswith("# RIGHT\n"), title
        assert len(re.findall(r"^> ", text, re.MULTILINE)) >= 1, title


@pytest.mark.parametrize("title", SECTIONS)
def test_wrong_gets_the_sentence_that_is_quoted(title, names):
    quoted = one_line(" ".join(re.findall(r"^> ?(.*)$", SECTIONS[title], re.MULTILINE)))
    with pytest.raises(InvalidInputError) as caught:
        run(blocks(SECTIONS[title])[0], names)
    pattern = ".*".join(map(re.escape, quoted.split("…")))  # what torch says in its own words may change
    assert re.fullmatch(pattern, one_line(str(caught.value))), f"{caught.value}"


@pytest.mark.parametrize("title", SECTIONS)
def test_right_keeps_the_contract(title, names):
    run(blocks(SECTIONS[title])[1], names)


def test_the_skeletons_keep_it_too(names):
    """The pair alone; under the guide; with the likelihood in a VAE."""
    check_pair(names["model"], names["guide"], names["x"])
    exec(skeleton("class MyGuide"), names)
    exec(skeleton("class MyLikelihood"), names)
    check_pair(names["model"], names["MyGuide"](4, 2), names["x"])
    pair = pyrovae.load("vae")(4, latent=2, likelihood=names["MyLikelihood"](), guide=names["MyGuide"])
    pair[0].initialise(names["x"])
    check_pair(*pair, names["x"])


def test_the_skeleton_of_an_estimator_is_the_effective_sample_size(names, seed):
    exec(skeleton("def effective_samples"), names)
    torch.manual_seed(seed)
    found = names["effective_samples"](names["model"], names["guide"], names["x"], 50)
    torch.manual_seed(seed)
    log_w = pyrovae.log_weights(names["model"], names["guide"], names["x"], 50)
    torch.testing.assert_close(found, pyrovae.ess(log_w))
    w = log_w.double().exp()
    torch.testing.assert_close(found.double(), w.sum(0) ** 2 / (w**2).sum(0), rtol=1e-4, atol=0)


def test_the_skeleton_of_an_objective_is_the_median_and_trains(names, seed):
    exec(skeleton("class Median("), names)
    median = names["Median"](5)
    torch.manual_seed(seed)
    found = median.loss(names["model"], names["guide"], names["x"])
    torch.manual_seed(seed)
    log_w = pyrovae.log_weights(names["model"], names["guide"], names["x"], 5)
    assert found == pytest.approx(-log_w.median(0).values.sum().item(), rel=1e-5)
    losses = pyrovae.fit(names["model"], names["guide"], names["x"], objective=median, epochs=100, lr=1e-2).losses
    assert sum(losses[-10:]) < sum(losses[:10])


def test_the_skeleton_of_a_file_is_a_file(tmp_path):
    """As the command line takes it: found by its path, trained, scored."""
    file = tmp_path / "mine.py"
    file.write_text(skeleton('"""Mine'))
    pair = pyrovae.load(file)
    assert pair.summary == "Mine: z ~ N(0, I), x|z ~ Laplace(f(z), b)."
    model, guide = pair(4)
    x = torch.rand(60, 4)
    before = evaluate(model, guide, x, num_samples=100).mean_elbo.value
    pyrovae.fit(model, guide, x, epochs=40, batch_size=None, lr=1e-2)
    assert evaluate(model, guide, x, num_samples=100).mean_elbo.value > before + 1
