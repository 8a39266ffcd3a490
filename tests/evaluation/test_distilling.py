"""A guide trained on posterior draws, against the optimum that is known; and `pyrovae distil` as a user meets it."""

import json
import math

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from command_line import invoke
from pyro.infer.autoguide import AutoNormal

import pyrovae
from pyrovae import InvalidInputError, NonFiniteError, distil
from pyrovae.evaluation import distilling
from pyrovae.tables.distillation import advice


@pytest.fixture
def ppca():
    """PPCA in R^8 with 3 latents, whose posterior is N(M x, S), and 300 of its own points."""
    model, _ = pyrovae.load("ppca")(8, latent=3)
    with torch.no_grad():
        model.log_sigma.fill_(math.log(0.4))
    model = model.double()
    return model, pyrovae.sample(model, 300, torch.zeros(300, 8).double())


class Diagonal(pyrovae.Module):
    """q(z|x) = N(A x + b, diag s²), s the same for all x."""

    def __init__(self):
        super().__init__()
        self.mean = torch.nn.Linear(8, 3)
        self.log_scale = torch.nn.Parameter(torch.zeros(3))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.mean(x), self.log_scale.exp()).to_event(1))


TRAINING = {"epochs": 300, "batch_size": 300, "lr": 3e-2, "num_samples": 50}


def test_a_family_that_holds_the_posterior_reaches_it(ppca, seed):
    """Every weight is then p(x): ELBO, L_K and log p(x) are one number, on points that the guide has not seen."""
    model, x = ppca
    guide = pyrovae.guides.LinearGaussian(8, 3).double()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    result = distil(model, guide, x[:200], x[200:], seed=seed, **TRAINING)
    assert result.mean("gap_before").value > 1
    assert result.mean("gap").value < 0.01  # nats, that 300 steps and 64 draws of each of 200 points leave
    assert abs(result.mean("bound_error").value) < 0.01
    assert (result.gap.abs() < 0.15).all()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert advice(result) == "The guide is closer to the posterior: both errors are smaller."
    torch.testing.assert_close(result.log_likelihood, model.log_prob(x[200:]).detach())
    assert result.reliability == "reliable"


def test_a_diagonal_family_gets_the_variances_of_the_marginals(ppca, seed):
    """The maximum of E_p log q over diagonal Gaussians has the posterior's means and the diagonal of its covariance S, where the
    maximum of the ELBO has 1 / (S⁻¹)_ii."""
    model, x = ppca
    guide = Diagonal().double()
    result = distil(model, guide, x, x, seed=seed, **TRAINING)
    exact = model.posterior(x)
    covariance = exact.covariance_matrix[0].detach()
    torch.testing.assert_close((2 * guide.log_scale).exp().detach(), covariance.diagonal(), rtol=0.05, atol=0)
    precision = torch.linalg.inv(covariance)
    offset = (guide.mean(x) - exact.mean).detach()
    assert 0.5 * torch.einsum("ni,ij,nj->n", offset, precision, offset).mean() < 0.01  # nats
    inflation = (precision.diagonal() * covariance.diagonal()).sum() - 3 - covariance.diagonal().log().sum()
    gap = 0.5 * float(inflation + torch.logdet(covariance))  # KL(q ‖ p)
    value, mc_se, _ = result.mean("gap")
    assert abs(value - gap) < 5 * mc_se + 0.02
    error, se, _ = result.mean("bound_error")
    assert abs(error) < 5 * se + 0.01


@pytest.fixture
def short(ppca):
    """Two epochs, which show everything but an optimum."""
    model, x = ppca
    return model, Diagonal().double(), x, {"epochs": 2, "batch_size": 100, "num_draws": 8, "num_samples": 10}


def test_every_number_is_saved_and_nothing_else_is_changed(short, tmp_path):
    model, guide, x, settings = short
    state, done = torch.get_rng_state(), []
    guide.train()
    result = distil(model, guide, x, on_progress=done.append, **settings)
    assert torch.equal(torch.get_rng_state(), state)
    assert guide.training
    assert (len(result), result.metadata["train_points"]) == (60, 240)  # a fifth is held out
    assert sum(done) == pytest.approx(1)
    assert len(result.losses) == 2
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert content["means"]["gap"]["value"] == pytest.approx(float(result.gap.mean()))
    assert content["means"]["gap_before"]["value"] == pytest.approx(
        float((result.log_likelihood - result.before.elbo).mean())
    )
    assert content["final_loss"] == result.losses[-1]
    result.to_arviz().to_netcdf(str(tmp_path / "a.nc"))
    stats = arviz.from_netcdf(str(tmp_path / "a.nc")).sample_stats
    np.testing.assert_array_equal(stats["bound_error"].values, result.bound_error.numpy())
    assert repr(result).startswith("DistillationResult(60 held-out points: gap ")


def test_the_same_seed_gives_the_same_guide(short):
    model, _, x, settings = short
    guides = []
    for seed in (3, 3, 4):
        torch.manual_seed(0)
        guides.append(Diagonal().double())
        distil(model, guides[-1], x[:50], x[50:60], seed=seed, **settings)
    first, again, other = (guide.log_scale for guide in guides)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_cannot_be_distilled(short, ppca):
    model, guide, x, settings = short
    exact_guide = pyrovae.load("ppca")(8, latent=3)
    auto = AutoNormal(model)
    auto(x)

    def helped(x):
        with pyro.plate("data", len(x)):
            scale = pyro.param("scale", torch.ones(3).double())
            helper = pyro.sample("helper", dist.Normal(x[:, :3], scale).to_event(1), infer={"is_auxiliary": True})
            pyro.sample("z", dist.Delta(helper, event_dim=1))

    for pair, sentence in (
        (pyrovae.load("gmm")(8, components=2), "Latent 'z' is discrete"),
        (exact_guide, "no parameters of its own"),
        ((model, auto), "parameters for each point"),
        ((model, helped), "with the help of site 'helper'"),
    ):
        points = x.float() if pair[0] is not model else x
        with pytest.raises(InvalidInputError, match=sentence):
            distil(*pair, points, **settings)
    with pytest.raises(InvalidInputError, match="lr is 0: give a learning rate above 0"):
        distil(model, guide, x, lr=0, **settings)
    with pytest.raises(InvalidInputError, match="Of 2 points none can be held out"):
        distil(model, guide, x[:2], **settings)


def test_a_guide_whose_density_overflows_comes_back_as_it_was(short, monkeypatch):
    model, guide, x, settings = short
    monkeypatch.setattr(distilling, "resampled_latents", lambda *given: torch.full((8, 240, 3), torch.inf).double())
    before = guide.mean.weight.detach().clone()
    with pytest.raises(NonFiniteError, match="in epoch 1 of the distillation, and the guide is as it was"):
        distil(model, guide, x, **settings)
    assert torch.equal(guide.mean.weight, before)


# The command line.


def test_distil_writes_a_run_with_the_new_guide(run, tmp_path):
    words = (
        "--epochs",
        5,
        "--num-draws",
        8,
        "--num-samples",
        20,
        "--out",
        tmp_path / "new",
        "--json",
        tmp_path / "a.json",
    )
    result = invoke("distil", run, *words)
    assert result.exit_code == 0, result.output
    assert "gap after" in result.stdout
    content = json.loads((tmp_path / "a.json").read_text())
    old, new = pyrovae.load_run(run), pyrovae.load_run(tmp_path / "new")
    for a, b in zip(old.model.parameters(), new.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(not torch.equal(a, b) for a, b in zip(old.guide.parameters(), new.guide.parameters(), strict=True))
    again = invoke("evaluate", tmp_path / "new", "--num-samples", 20, "--json", tmp_path / "b.json")
    assert again.exit_code == 0, again.output
    [row] = json.loads((tmp_path / "b.json").read_text())["models"]
    assert row["elbo"] == pytest.approx(content["means"]["elbo"]["value"], rel=1e-5)
    refused = invoke("distil", run, *words)
    assert refused.exit_code == 2
    assert "exists: name another folder, or say --overwrite" in refused.stderr
