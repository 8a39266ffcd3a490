"""Annealed importance sampling against closed forms and quadrature; its bound, and what it must refuse.

Points and chains are as many as make a twentieth of a nat five standard errors of the mean: a correct program fails such a test once
in a million runs."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from small_pairs import angle

import pyrovae
from pyrovae import InvalidInputError, NonFiniteError, evaluate
from pyrovae.estimators import annealing_path
from pyrovae.estimators.annealing import ais
from pyrovae.estimators.annealing_schedules import Linear, Sigmoid
from pyrovae.posterior import batching as chunks
from pyrovae.posterior import laplace_limits


@pytest.fixture
def ppca():
    """PPCA in R^8 with 3 latents, a mean-field guide that nobody trained, and 60 of its own points."""
    model, _ = pyrovae.load("ppca")(8, latent=3)
    with torch.no_grad():
        model.log_sigma.fill_(math.log(0.4))
    model, guide = model.double(), pyrovae.guides.MeanField(8, 3, (10,)).double()
    return model, guide, pyrovae.sample(model, 60, torch.zeros(60, 8).double())


def normal_guide(loc, scale):
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc(x), scale).to_event(1))

    return guide


@pytest.mark.parametrize(
    ("start", "schedule"), [("prior", Sigmoid(4)), ("guide", Linear())], ids=["prior, sigmoid", "guide, linear"]
)
def test_ppca_to_a_twentieth_of_a_nat(ppca, start, schedule, seed):
    model, guide, x = ppca
    found = ais(model, guide, x, 16, 800, seed, start=start, schedule=schedule, num_leapfrog_steps=3)
    exact = model.log_prob(x).detach()
    difference = found.log_likelihood - exact
    assert abs(difference.mean()) < 0.05
    assert difference.mean() < 4 * difference.std() / math.sqrt(len(x))  # a lower bound: never above
    assert found.bound == "lower"
    assert (found.acceptance > 0.5).all()
    assert (found.acceptance <= 1).all()


def test_every_weight_is_unbiased_however_short_the_way(seed):
    """E w = p(x) to 5 standard errors over 6,000 chains of 6 distributions each: a transition that did not leave f_β
    invariant (another β, an energy a tenth off) shows."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=x)

    x = torch.tensor([[0.5, -1.0], [0.0, 0.3]]).double()
    exact = dist.Normal(0.0, math.sqrt(1.25)).log_prob(x).sum(-1)
    found = ais(model, normal_guide(lambda x: 0.5 * x, 0.7), x, 6000, 6, seed, start="prior", num_leapfrog_steps=3)
    w = (found.log_w - exact).exp()
    assert ((w.mean(0) - 1).abs() < 5 * w.std(0) / math.sqrt(6000)).all()
    assert (w.std(0) > 0.1).all()  # it was no triviality


def quadrature(model, x, reach=8.0, points=401):
    """log ∫ p(x, z) dz on a square grid, by a model's own decoder."""
    grid = torch.linspace(-reach, reach, points, dtype=torch.float64)
    z = torch.cartesian_prod(grid, grid)
    log_prior = dist.Normal(torch.zeros(2).double(), 1.0).log_prob(z).sum(-1)
    with torch.no_grad():
        log_lik = torch.stack([model.decode(z).log_prob(row) for row in x], dim=1)
    return (log_prior[:, None] + log_lik).logsumexp(0) + 2 * math.log(float(grid[1] - grid[0]))


@pytest.mark.slow
def test_bernoulli_vae_with_two_latents_against_quadrature(seed):
    model, guide = pyrovae.load("vae")(20, latent=2, hidden=(12,), likelihood=pyrovae.likelihoods.Bernoulli())
    model, guide = model.double(), guide.double()
    with torch.no_grad():
        for p in model.decoder.parameters():
            p.mul_(3)  # far from linear
    x = pyrovae.sample(model, 60, torch.zeros(60, 20).double())
    exact = quadrature(model, x)
    found = ais(model, guide, x, 16, 500, seed, start="prior", num_leapfrog_steps=3)
    difference = found.log_likelihood - exact
    assert abs(difference.mean()) < 0.05
    assert difference.mean() < 4 * difference.std() / math.sqrt(len(x))


def test_two_modes_of_which_the_guide_knows_one(seed):
    """z ~ N(0, 1), x ~ N(z², 0.3²): importance weights from the right-hand mode are log 2 short and look perfect; chains from
    the prior find both."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.square(), 0.3).to_event(1), obs=x)

    x = torch.linspace(1.5, 3, 64).double()[:, None]
    guide = normal_guide(lambda x: x.sqrt(), 0.13)
    z = torch.linspace(-6, 6, 20_001, dtype=torch.float64)
    log_joint = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z.square(), 0.3).log_prob(x)
    exact = log_joint.logsumexp(1) + math.log(float(z[1] - z[0]))
    weighted = evaluate(model, guide, x, num_samples=2000, seed=seed)
    assert weighted.ess.median() > 1000
    assert abs((weighted.log_likelihood - exact).median() + math.log(2)) < 0.1
    found = ais(model, guide, x, 32, 600, seed, start="prior", num_leapfrog_steps=5)
    assert abs((found.log_likelihood - exact).mean()) < 0.05


@pytest.mark.slow
def test_a_sharp_decoder_where_weights_are_loose_by_tens_of_nats(seed):
    """σ = 0.05, 50 latents: with a guide a standard deviation off and twice too wide, 5,000 draws say nothing; chains that
    begin there do."""
    model, _ = pyrovae.load("ppca")(100, latent=50)
    model = model.double()
    with torch.no_grad():
        model.W.copy_(torch.randn(100, 50) / math.sqrt(50))
        model.log_sigma.fill_(math.log(0.05))
    x = pyrovae.sample(model, 8, torch.zeros(8, 100).double())
    posterior = model.posterior(x)
    loc, scale = posterior.mean.detach(), posterior.stddev.detach()
    guide = normal_guide(lambda x: loc + scale, 2 * scale)
    exact = model.log_prob(x).detach()
    weighted = evaluate(model, guide, x, num_samples=5000, seed=seed)
    assert (weighted.log_likelihood - exact).mean() < -20
    assert weighted.ess.median() < 5
    found = ais(model, guide, x, 16, 800, seed, start="guide", num_leapfrog_steps=7)
    # what is left: the error of 8 × 16 chains, and a bias of half the relative variance of their mean weight
    assert abs((found.log_likelihood - exact).mean()) < 0.5


def test_latents_that_are_positive_or_summed_out():
    """w ~ Gamma(3, 2), c ~ Cat, x ~ N(w m_c, 0.5²): against quadrature over w of the sum over c."""
    share, m = torch.tensor([0.3, 0.7], dtype=torch.float64), torch.tensor([1.0, -2.0], dtype=torch.float64)

    def model(x):
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(share), infer={"enumerate": "parallel"})
            w = pyro.sample("w", dist.Gamma(torch.tensor(3.0).double(), 2.0))
            pyro.sample("x", dist.Normal((w * m[c]).unsqueeze(-1), 0.5).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("w", dist.LogNormal(torch.zeros(len(x)).double(), 0.7))

    x = torch.linspace(-4, 4, 60).double()[:, None]
    w = torch.linspace(1e-4, 25, 40_001, dtype=torch.float64)
    log_joint = dist.Gamma(torch.tensor(3.0).double(), 2.0).log_prob(w) + (
        share.log()[:, None, None] + dist.Normal(m[:, None, None] * w, 0.5).log_prob(x)
    ).logsumexp(0)
    exact = log_joint.logsumexp(1) + math.log(float(w[1] - w[0]))
    for start in ("prior", "guide"):
        found = ais(model, guide, x, 16, 200, start=start, num_leapfrog_steps=5)
        assert abs((found.log_likelihood - exact).mean()) < 0.05


def test_error_over_chains_covers_the_exact_value(ppca, seed):
    """The standard error is that of the mean of 32 weights: over 60 points its scores have a variance of about 1."""
    model, guide, x = ppca
    found = ais(model, guide, x, 32, 200, seed, start="prior")
    score = (found.log_likelihood - model.log_prob(x).detach()) / found.log_likelihood_se
    assert (
        0.3 < score.square().mean() < 2.2
    )  # χ²_60 / 60 has a standard deviation of 0.18; few chains have heavier tails
    assert found.mean_log_likelihood.mc_se == pytest.approx(
        float(found.log_likelihood_se.square().sum().sqrt() / 60), rel=1e-6
    )


def test_by_default_chains_begin_at_the_fitted_posterior(ppca, seed):
    """With a guide that nobody trained: a hundred temperatures of four steps come within the error of 16 chains."""
    model, guide, x = ppca
    found = ais(model, guide, x, seed=seed)
    assert [found.metadata[key] for key in ("start", "num_temperatures", "num_leapfrog_steps")] == ["posterior", 100, 4]
    score = (found.log_likelihood - model.log_prob(x).detach()) / found.log_likelihood_se
    assert 0.3 < score.square().mean() < 2.2
    assert found.mean_log_likelihood.mc_se < 0.01
    assert found.reliability == "reliable"
    assert found.reliability_message == "Reliable at every point, given the modes found."
    assert set(found.method) == {"ais"}
    assert found.to_dict()["reliability"] == "reliable"


def test_chains_that_do_not_arrive_are_a_lower_bound(ppca, seed):
    """From the prior in three temperatures: log p̂(x) is low by a nat or more, and is not called reliable."""
    model, guide, x = ppca
    found = ais(model, guide, x, num_temperatures=3, seed=seed, start="prior", num_leapfrog_steps=1)
    error = found.log_likelihood - model.log_prob(x).detach()
    assert error.mean() < -0.5
    assert found.reliability in ("lower_bound", "not_estimated")
    assert not found.reliable.all()
    assert "At the others log p̂(x) is a lower bound" in found.reliability_message
    wrong = error.abs() > 4 * found.log_likelihood_se + 0.05
    assert (wrong & found.reliable).sum() <= 2


def test_modes_that_no_other_start_finds_make_a_lower_bound(seed):
    """z ~ N(0, I₁₀), x ~ N(z², 0.1²): 2¹⁰ modes, of which a search finds a few, and chains stay where they begin."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(10).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.square(), 0.1).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(len(x), 10).double(), 1.0).to_event(1))

    x = torch.full((3, 10), 2.0).double()
    z = torch.linspace(-6, 6, 20_001, dtype=torch.float64)
    one = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z.square(), 0.1).log_prob(torch.tensor(2.0))
    exact = 10 * float(one.logsumexp(0) + math.log(float(z[1] - z[0])))
    found = ais(model, guide, x, num_chains=8, num_temperatures=4, seed=seed)
    assert (found.log_likelihood < exact - 1).all()
    assert found.reliability == "lower_bound"


@pytest.mark.parametrize(("start", "used"), [(None, "guide"), ("guide", "guide"), ("prior", "prior")])
def test_an_angle_has_no_modes_to_begin_at(start, used):
    model, guide = angle()
    found = ais(model, guide, torch.zeros(3, 1), 2, 2, start=start)
    assert found.metadata["start"] == used
    with pytest.raises(InvalidInputError, match="Nothing can begin at the posterior. Latent 'z' is an angle"):
        ais(model, guide, torch.zeros(3, 1), 2, 2, start="posterior")


def test_a_guide_without_a_density_leaves_the_prior(ppca, monkeypatch):
    model, _, x = ppca
    monkeypatch.setattr(laplace_limits, "MAX_LATENTS", 2)
    guide = AutoNormal(model)
    guide(x)
    assert ais(model, guide, x, 2, 2).metadata["start"] == "prior"
    with pytest.raises(InvalidInputError, match="at the posterior. The posterior has 3 dimensions, .* at most 2"):
        ais(model, guide, x, 2, 2, start="posterior")
    with pytest.raises(InvalidInputError, match="cannot be asked for their density"):
        ais(model, guide, x, 2, 2, start="guide")


def test_same_seed_same_numbers_and_nothing_left_changed(ppca):
    model, guide, x = ppca
    model.train()
    before = torch.get_rng_state()
    done = []
    first, again, other = (
        ais(model, guide, x[:5], 4, 10, seed, start="prior", on_progress=done.append) for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert torch.equal(first.log_w, again.log_w)
    assert not torch.equal(first.log_w, other.log_w)
    assert sum(done) == pytest.approx(15)


def test_points_in_chunks_and_a_device_that_runs_out_of_memory(ppca, monkeypatch):
    """Chunks of at most 7 points, and memory for 3: every point is there once, and in its place."""
    model, guide, x = ppca
    sizes, original = [], annealing_path.Path.forward

    def forward(self, *rest):
        sizes.append(len(self.start.spread))
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError
        return original(self, *rest)

    monkeypatch.setattr(annealing_path.Path, "forward", forward)
    monkeypatch.setattr(chunks, "MIN_CHUNK_ROWS", 7 * 32)
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", {"cpu": 1})
    found = ais(model, guide, x[:11], 8, 60, start="prior")
    assert sizes == [7, 3, 3, 3, 2]
    torch.testing.assert_close(found.log_likelihood, model.log_prob(x[:11]).detach(), rtol=0, atol=1.5)


def test_single_precision(ppca):
    model, guide, x = ppca
    single = ais(model.float(), guide.float(), x.float(), 16, 200, start="prior")
    exact = model.double().log_prob(x).detach()
    assert abs((single.log_likelihood - exact).mean()) < 0.1


def test_schedules_begin_at_0_and_end_at_1():
    for schedule in (Linear(), Sigmoid(), Sigmoid(1)):
        beta = schedule(50)
        assert beta[0] == 0
        assert beta[-1] == 1
        assert (beta.diff() > 0).all()
    middle = [1 / (1 + math.exp(4 * (1 - 2 * t / 4))) for t in range(5)]
    expected = [(m - middle[0]) / (middle[4] - middle[0]) for m in middle]
    torch.testing.assert_close(Sigmoid(4)(4), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10)


def test_describes_itself(ppca):
    found = ais(*ppca[:2], ppca[2][:3], 4, 10, start="prior")
    assert repr(found).startswith("AISResult(3 points, 4 chains of 10 temperatures: log p(x) ≥ -")
    assert found.metadata["start"] == "prior"
    assert found.metadata["schedule"] == "sigmoid(4)"
    assert found.log_w.shape == (4, 3)
    assert (found.ess >= 1).all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_chains": 1}, "num_chains is 1: give a whole number, at least 2, so that the estimate has an error"),
        ({"num_temperatures": 0}, "num_temperatures is 0"),
        ({"num_leapfrog_steps": 0}, "num_leapfrog_steps is 0"),
        ({"num_temperatures": 10.0}, "num_temperatures is 10.0"),
    ],
)
def test_settings_that_cannot_be_used(ppca, settings, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        ais(*ppca, **settings)


def test_x_of_another_dimension(ppca):
    with pytest.raises(InvalidInputError, match="The guide cannot be run on x of shape \\(60, 5\\)"):
        ais(*ppca[:2], ppca[2][:, :5])


def test_a_schedule_of_no_width():
    with pytest.raises(InvalidInputError, match="rad=0"):
        Sigmoid(0)


def test_a_point_that_no_chain_can_explain():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            fits = torch.where(x > 5, -torch.inf, 0.0).squeeze(-1)
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)
            pyro.factor("f", fits.expand(z.shape[:-1]))

    with pytest.raises(NonFiniteError, match=r"No chain of data point 2 has a finite weight"):
        ais(model, normal_guide(lambda x: x, 1.0), torch.tensor([[0.0], [1.0], [9.0]]), 4, 5, start="prior")
