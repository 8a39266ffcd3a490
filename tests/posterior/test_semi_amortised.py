"""The semi-amortised guide: any pair wears it, its gap is the family's, and one point has one q* whatever its company."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import pyrovae
from pyrovae import evaluate, log_weights
from pyrovae.estimators.annealing import ais
from pyrovae.posterior.optimise import RefinementSettings
from pyrovae.posterior.semi_amortised import SemiAmortised
from pyrovae.posterior.variational_families import DiagonalGaussian, FlowFamily, FullGaussian


def build():
    model, _ = pyrovae.load("ppca")(20, latent=5)
    with torch.no_grad():
        model.log_sigma.fill_(math.log(0.3))
    model, guide = model.double(), pyrovae.guides.MeanField(20, 5, (11,)).double()
    return model, guide, pyrovae.sample(model, 12, torch.zeros(12, 20).double())


@pytest.fixture
def ppca():
    return build()


@pytest.fixture(scope="module")
def refined(request):
    """A guide whose points are refined once for all tests that only read it."""
    torch.manual_seed(request.config.getoption("--seed"))
    model, guide, x = build()
    worn = SemiAmortised(model, guide)
    pyro.poutine.trace(worn).get_trace(x)
    return model, worn, x


def test_full_covariance_makes_every_weight_the_exact_value(ppca):
    model, guide, x = ppca
    exact = model.log_prob(x).detach()
    log_w = log_weights(model, SemiAmortised(model, guide, FullGaussian()), x, 7)
    assert ((log_w - exact).abs() < 0.02).all()
    assert (log_weights(model, guide, x, 7).mean(0) < exact - 1).all()  # what it began with


def test_evaluate_reaches_the_best_diagonal_gaussian(refined, seed):
    model, worn, x = refined
    precision = torch.linalg.inv(model.posterior(x).covariance_matrix[0]).detach()
    best = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
    found = evaluate(model, worn, x, 10_000, seed)
    assert abs((found.exact_log_likelihood - found.elbo).mean() - best) < 0.02


def test_a_point_has_one_q_in_any_batch_and_draws_are_fresh(ppca):
    model, guide, x = ppca
    worn = SemiAmortised(model, guide, protocol=RefinementSettings(limit=200, settle=50))
    drawn = {}
    for name, rows in (("all", x), ("some", x[3:5].clone()), ("again", x)):
        drawn[name] = pyro.poutine.trace(worn).get_trace(rows).nodes["z"]
    for part in ("loc", "spread"):
        every, some = (getattr(drawn[name]["fn"].posteriors, part) for name in ("all", "some"))
        assert torch.equal(every[3:5], some)
    for name, value in drawn["all"]["fn"].posteriors.parameters.items():
        assert torch.equal(value[3:5], drawn["some"]["fn"].posteriors.parameters[name])
    assert not torch.equal(drawn["all"]["value"], drawn["again"]["value"])


def test_refining_leaves_the_random_state_alone(ppca):
    model, guide, x = ppca
    worn = SemiAmortised(model, guide, protocol=RefinementSettings(limit=100, settle=0))
    draws = []
    for _ in range(2):
        torch.manual_seed(5)
        draws.append(pyro.poutine.trace(worn).get_trace(x).nodes["z"]["value"])
    assert torch.equal(*draws)  # the first call refined, the second did not


@pytest.mark.parametrize("family", [None, FullGaussian(), FlowFamily(2, 8)], ids=str)
def test_it_keeps_the_contract(ppca, family):
    model, guide, x = ppca
    pyrovae.check_pair(model, SemiAmortised(model, guide, family, protocol=RefinementSettings(limit=300, settle=50)), x)


def test_annealing_begins_at_it(refined, seed):
    model, worn, x = refined
    found = ais(model, worn, x, 8, 50, seed, start="guide")
    assert abs((found.log_likelihood - model.log_prob(x).detach()).mean()) < 0.1


def several(x):
    """w ~ Gamma; b | w in an inner plate; the points' plate outside; c summed out."""
    with pyro.plate("data", len(x), dim=-2):
        c = pyro.sample("c", dist.Categorical(torch.tensor([0.3, 0.7]).double()), infer={"enumerate": "parallel"})
        w = pyro.sample("w", dist.Gamma(3 * torch.ones(1).double(), 2.0))
        with pyro.plate("places", 2, dim=-1):
            b = pyro.sample("b", dist.Normal(w, 1.0))
            pyro.sample("x", dist.Normal(b + c, 0.5), obs=x)


def several_guide(x):
    with pyro.plate("data", len(x), dim=-2):
        pyro.sample("w", dist.LogNormal(torch.zeros(len(x), 1).double(), 0.5))
        with pyro.plate("places", 2, dim=-1):
            pyro.sample("b", dist.Normal(x, 1.0))


@pytest.mark.slow
def test_latents_of_other_supports_and_plates(seed):
    x = torch.tensor([[1.0, 2.0], [0.5, 0.0], [3.0, 1.5], [2.0, 2.0]]).double()
    w = torch.linspace(1e-4, 25, 40_001, dtype=torch.float64)
    prior = dist.Gamma(torch.tensor(3.0).double(), 2.0).log_prob(w)[:, None]
    terms = [
        prior + math.log(share) + dist.Normal(w[:, None, None] + c, math.sqrt(1.25)).log_prob(x).sum(-1)
        for c, share in enumerate((0.3, 0.7))
    ]
    exact = torch.logaddexp(*terms).logsumexp(0) + math.log(float(w[1] - w[0]))
    worn = SemiAmortised(several, several_guide, FullGaussian(), protocol=RefinementSettings(limit=600))
    found = evaluate(several, worn, x, 20_000, seed)
    assert abs((found.log_likelihood - exact).mean()) < 0.05
    assert (found.elbo < exact + 5 * found.elbo_se).all()
    assert ((exact - found.elbo) < (exact - evaluate(several, several_guide, x, 20_000).elbo)).all()
    pyrovae.check_pair(several, worn, x)


def test_over_a_guide_of_one_set_of_points(ppca):
    """AutoNormal has parameters for the points that it was made on; refined, they may come in any batch."""
    model, _, x = ppca
    inner = AutoNormal(model)
    inner(x)
    worn = SemiAmortised(model, inner, DiagonalGaussian(), protocol=RefinementSettings(limit=200, settle=50))
    together = log_weights(model, worn, x, 5)
    assert together.shape == (5, 12)
    assert log_weights(model, worn, x[4:6].clone(), 5).shape == (5, 2)


@pytest.mark.slow
def test_forget_after_training(ppca):
    model, guide, x = ppca
    worn = SemiAmortised(model, guide, FullGaussian(), protocol=RefinementSettings(limit=600))
    log_weights(model, worn, x)
    with torch.no_grad():
        model.mu.add_(0.5)
    exact = model.log_prob(x).detach()
    assert (log_weights(model, worn, x)[0] - exact).abs().max() > 0.5
    worn.forget()
    assert (log_weights(model, worn, x)[0] - exact).abs().max() < 0.1
