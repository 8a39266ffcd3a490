"""Every example runs as a user would run it; each asserts its own answer, or is a file to be named, and is held to one here."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import said
from pyro.distributions import Normal

import pyrovae
from pyrovae import check_pair, evaluate, fit, load
from pyrovae.loading.user_files import module_of

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


SLOW = {"where_the_gap_comes_from", "one_table", "posterior_collapse"}


def is_slow(name):
    return name in SLOW or name.startswith("svi_")


@pytest.mark.parametrize(
    "example", [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * is_slow(path.stem)) for path in EXAMPLES]
)
def test_example(example, tmp_path):
    done = subprocess.run([sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


def test_a_model_takes_25_lines_and_a_guide_12():
    assert len((FOLDER / "own_model.py").read_text().splitlines()) <= 25
    assert len((FOLDER / "own_guide.py").read_text().splitlines()) <= 12


@pytest.mark.parametrize("guide", [pyrovae.guides.FullCovariance, pyrovae.guides.MeanField])
def test_the_model_keeps_the_contract(guide):
    check_pair(*load(FOLDER / "own_model.py")(6, guide=guide), torch.rand(12, 6))


def test_the_models_evidence_against_quadrature(seed):
    """One latent number: log ∫ ½ e^−|z| N(x | Wz + μ, σ²I) dz, by the midpoint rule on both sides of the prior's peak."""
    model, guide = load(FOLDER / "own_model.py")(3, latent=1)
    x = torch.rand(200, 3, generator=torch.Generator().manual_seed(2))
    fit(model, guide, x, epochs=60, batch_size=50, lr=1e-2, compile=False)
    model, guide, x = model.double(), guide.double(), x[:8].double()
    z = ((torch.arange(40_000).double() + 0.5) / 40_000 * 40 - 20).unsqueeze(-1)
    with torch.no_grad():
        seen = Normal(z @ model.W.mT + model.mu, model.log_sigma.exp()).log_prob(x.unsqueeze(1)).sum(-1)
    exact = (seen - math.log(2) - z.abs().squeeze(-1)).logsumexp(-1) + math.log(40 / 40_000)
    found = evaluate(model, guide, x, num_samples=20_000, seed=seed)
    assert ((found.log_likelihood - exact).abs() < 6 * found.log_likelihood_se + 1e-4).all()


HEAVY = f"{FOLDER / 'own_guide.py'}:HeavyTails"


@pytest.mark.parametrize("model", ["ppca", "factor_analysis", "vae", "gmvae", FOLDER / "own_model.py"], ids=str)
def test_any_model_with_a_real_latent_wears_the_guide(model):
    pair = load(model)
    check_pair(*pair(6, **pair.parse([f"guide={HEAVY}"])), torch.rand(12, 6))


def test_the_guides_density_is_that_of_student_t(seed):
    """log p̂ under it is PPCA's exact log p(x), within 6 standard errors, and its weights have a largest one: no Pareto tail."""
    pair = load("ppca")
    model, guide = pair(5, latent=2, **pair.parse([f"guide={HEAVY}"]))
    x = torch.rand(300, 5, generator=torch.Generator().manual_seed(3))
    fit(model, guide, x, epochs=60, batch_size=100, lr=1e-2, compile=False)
    found = evaluate(model.double(), guide.double(), x[:40].double(), num_samples=4000, seed=seed)
    assert ((found.log_likelihood - found.exact_log_likelihood).abs() < 6 * found.log_likelihood_se + 1e-4).all()
    assert float(found.mean_gap.value) > 1e-3
    assert found.high_pareto_k_fraction == 0


def test_the_command_of_the_readme_takes_both(tmp_path, monkeypatch):
    """In another folder: names and paths as a user writes them."""
    monkeypatch.chdir(FOLDER.parent)
    few = ("--epochs", "1")
    table = said("compare", "--models", "ppca,examples/own_model.py", *few, "--num-samples", "10")
    assert "own_model − ppca" in table or "ppca − own_model" in table
    words = ("--set", "guide=examples/own_guide.py:HeavyTails", *few, "--out", str(tmp_path / "run"))
    said("train", "examples/own_model.py", *words)
    assert module_of(tmp_path / "run" / "option_guide.py").HeavyTails
    assert "own_model" not in str(pyrovae.load_run(tmp_path / "run").pair.file)  # its copy, model.py
