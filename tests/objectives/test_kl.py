"""Weights and floors on the KL: what they are, and that none is reported under the ELBO's name."""

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO
from torch import nn

import pyrovae
from pyrovae import InvalidInputError, evaluate, fit
from pyrovae.objectives import (
    IWAE,
    Beta,
    DReG,
    FreeBits,
    Terms,
    WakeSleep,
    default_objective,
    differentiable_loss,
    warm_up,
)
from pyrovae.pair.structure import inspect_pair

DIM = 3
KL = 2.0 + 0.5 * 1.5**2  # of N((2, 1.5), I) against N(0, I)


class Told(pyrovae.Module):
    """z ~ N(0, I₂), x|z ~ N(z₁ + z₂, 1): its guide N(m, I) knows no x, so that KL(q ‖ p) is |m|²/2 for each point."""

    def __init__(self):
        super().__init__()
        self.guide = Blind()

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True).expand(*z.shape[:-1], DIM), 1.0).to_event(1), obs=x)


class Blind(pyrovae.Module):
    def __init__(self):
        super().__init__()
        self.m = nn.Parameter(torch.tensor([2.0, 1.5]).double())

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.m.expand(len(x), 2), 1.0).to_event(1))


class Twisted(Blind):
    """The same q, whose KL has no closed form number by number."""

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(self.m.expand(len(x), 2), torch.eye(2).double()))


def points(count=12):
    return torch.randn(count, DIM).double()


def gradient_of(objective, pair, x, seed):
    torch.manual_seed(seed)
    loss = objective.differentiable_loss(pair, pair.guide, x)
    return torch.cat([loss.detach().reshape(1), *torch.autograd.grad(loss, list(pair.parameters()))])


@pytest.mark.parametrize("objective", [Beta(1.0), FreeBits(0.0), FreeBits(1e-3)], ids=repr)
def test_without_weight_or_floor_it_is_the_elbo(objective, seed):
    pair, x = Told(), points()
    stock = default_objective(inspect_pair(pair, pair.guide, x))
    torch.testing.assert_close(
        gradient_of(objective, pair, x, seed), gradient_of(stock, pair, x, seed), rtol=1e-10, atol=1e-10
    )
    pair.guide = Twisted()
    if objective.hyperparameters() != (1e-3,):
        torch.testing.assert_close(
            gradient_of(objective, pair, x, seed), gradient_of(Trace_ELBO(), pair, x, seed), rtol=1e-10, atol=1e-10
        )


def test_beta_adds_its_weight_of_the_kl_to_loss_and_gradient(seed):
    pair, x = Told(), points()
    one, four = (gradient_of(Beta(beta), pair, x, seed) for beta in (1.0, 4.0))
    m = pair.guide.m.detach()
    torch.testing.assert_close(four - one, 3 * len(x) * torch.cat([torch.tensor([KL]).double(), m]), rtol=1e-10, atol=0)


@pytest.mark.parametrize(("nats", "kept"), [(1.0, (2.0, 1.125)), (1.5, (2.0, 1.5)), (3.0, (3.0, 3.0))])
def test_a_floor_is_on_each_number_of_the_latent_and_stops_its_gradient(nats, kept, seed):
    """KL₁ = 2 and KL₂ = 1.125; below the floor only log p(x|z) moves m."""
    pair, x = Told(), points()
    bare, floored = (gradient_of(objective, pair, x, seed) for objective in (Beta(0.0), FreeBits(nats)))
    slope = [m if kl > nats else 0.0 for m, kl in zip((2.0, 1.5), (2.0, 1.125), strict=True)]
    expected = len(x) * torch.tensor([sum(kept), *slope]).double()
    torch.testing.assert_close(floored - bare, expected, rtol=1e-10, atol=1e-10)


def test_where_the_kl_is_estimated_the_floor_is_on_all_of_it():
    """One group: 3.125 nats, estimated; a floor of 50 holds it."""
    pair, x = Told(), points(500)
    pair.guide = Twisted()
    terms = FreeBits(50.0).batch(pair, pair.guide, x, inspect_pair(pair, pair.guide, x))
    assert (terms.loss + terms.reconstruction).item() == pytest.approx(50.0 * len(x), rel=1e-10)
    assert terms.kl.item() / len(x) == pytest.approx(KL, abs=5 * math.hypot(2.0, 1.5) / 500**0.5)


# what is reported


@pytest.mark.parametrize(
    ("objective", "loss"),
    [
        (Beta(4.0), lambda row: 4 * KL - row["reconstruction"]),
        (Beta(0.0), lambda row: -row["reconstruction"]),
        (FreeBits(5.0), lambda row: 10.0 - row["reconstruction"]),
    ],
    ids=["Beta(4)", "Beta(0)", "FreeBits(5)"],  # names that are the same in every process of the tests
)
def test_the_history_has_the_elbo_and_the_loss_under_their_own_names(objective, loss):
    pair = Told()
    result = fit(pair, pair.guide, points(), epochs=2, batch_size=5, lr=1e-9, objective=objective)
    for row, told in zip(result.history, result.losses, strict=True):
        assert row["loss"] == told == pytest.approx(loss(row), rel=1e-6)
        if objective.hyperparameters() == (0.0,):
            assert math.isnan(row["elbo"])  # a loss without the KL does not tell it
            continue
        assert row["kl"] == pytest.approx(KL, rel=1e-6)
        assert row["elbo"] == pytest.approx(row["reconstruction"] - KL, rel=1e-6)


@pytest.mark.parametrize("objective", [IWAE(50), DReG(50), WakeSleep(50)], ids=repr)
def test_the_loss_is_the_bound_and_the_elbo_the_elbo(objective):
    """Over 3,000 points; both in closed form or by `evaluate`, at 5 standard errors over points and draws."""
    pair, x = Told(), points(3000)
    row = fit(pair, pair.guide, x, epochs=1, batch_size=None, lr=1e-9, objective=objective).history[0]
    evidence = evaluate(pair, pair.guide, x, num_samples=50, seed=1)
    for found, expected in (
        (row["elbo"], evidence.mean_elbo),
        (-row["loss"], evidence.mean_log_likelihood),
        (row["reconstruction"] - row["kl"], evidence.mean_elbo),
    ):
        assert abs(found - expected.value) < 5 * 2**0.5 * expected.mc_se
    assert -row["loss"] - row["elbo"] > 1.0  # two numbers, and not near one another


@pytest.mark.parametrize("objective", [IWAE(3), Beta(4.0), FreeBits(1.0)], ids=repr)
def test_a_warm_up_on_top_is_in_the_loss_and_in_nothing_else(objective):
    pair = Told()
    row = fit(
        pair, pair.guide, points(3000), epochs=2, batch_size=None, lr=1e-9, objective=objective, kl_warmup_fraction=1.0
    )
    assert row.history[1]["kl_weight"] == 0.5
    assert row.history[1]["kl"] == pytest.approx(KL, abs=5 * 2.5 / 3000**0.5)
    assert row.history[1]["elbo"] == pytest.approx(row.history[1]["reconstruction"] - row.history[1]["kl"], rel=1e-9)


def test_nothing_of_a_training_objective_is_left_in_what_is_measured():
    pair, x = Told(), points(50)
    fresh = copy.deepcopy(pair)
    for objective in (Beta(9.0), FreeBits(9.0), IWAE(9)):
        fit(pair, pair.guide, x, epochs=1, lr=1e-12, objective=objective)
        found, expected = (evaluate(p, p.guide, x, 100, 0) for p in (pair, fresh))
        torch.testing.assert_close(found.elbo, expected.elbo, rtol=1e-8, atol=0)
        torch.testing.assert_close(found.log_likelihood, expected.log_likelihood, rtol=1e-8, atol=0)


def test_an_objective_that_tells_no_elbo_leaves_its_column_empty():
    pair = Told()
    objective = RenyiELBO(alpha=0.0, num_particles=4, vectorize_particles=True, max_plate_nesting=1)
    row = fit(pair, pair.guide, points(), epochs=1, objective=objective).history[0]
    assert math.isnan(row["elbo"])
    assert math.isnan(row["kl"])
    assert math.isfinite(row["loss"])


def test_a_prior_of_classes_summed_out_has_the_weight_too(seed):
    """log p(z) = log Σ_y p(y) p(z|y) of a gmvae: β log p(z), where y alone is summed and x does not depend on it."""
    model, guide = (half.double() for half in pyrovae.load("gmvae")(DIM, latent=2, hidden=(5,), components=3))
    x = torch.rand(6, DIM).double()
    structure = inspect_pair(model, guide, x)
    terms = differentiable_loss(default_objective(structure), model, guide, x, structure)
    assert not isinstance(terms, str), terms
    torch.manual_seed(seed)
    plain = terms(model, guide, x)
    torch.manual_seed(seed)
    with warm_up(0.25):
        weighted = terms(model, guide, x)
    kl = plain.loss + plain.reconstruction
    torch.testing.assert_close(weighted.loss, 0.25 * kl - plain.reconstruction, rtol=1e-10, atol=1e-10)


def test_a_prior_of_classes_on_which_x_depends_has_the_weight_too(seed):
    """log p(x|z) + β [log p(z) − log q(z|x)], log p(x|z) = log Σ_k p(x, z, k) − log Σ_k p(z, k)."""
    means, weights, x = torch.randn(3, 2).double(), torch.randn(3, DIM).double(), torch.rand(6, DIM).double()

    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(x.new_ones(3) / 3), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(means[k], 0.7).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True) * weights[k], 0.5).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x[:, :2], 0.4).to_event(1))

    structure = inspect_pair(model, guide, x)
    terms = differentiable_loss(default_objective(structure), model, guide, x, structure)
    assert not isinstance(terms, str), terms
    found = []
    for of in (lambda: terms(model, guide, x).loss, lambda: IWAE(1).batch(model, guide, x, structure).loss):
        torch.manual_seed(seed)
        with warm_up(0.25):
            found.append(of())
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


def test_what_is_no_weight_is_refused():
    for wrong in (lambda: Beta(-1.0), lambda: Beta(math.nan), lambda: FreeBits(-0.1), lambda: FreeBits(math.inf)):
        with pytest.raises(InvalidInputError, match="give a finite number, at least 0"):
            wrong()


@pytest.mark.parametrize("told", [False, True])
def test_an_objective_of_ones_own_says_what_its_loss_is(told):
    """A loss alone with log p(x|z) is −ELBO; with the KL beside it, it may be anything."""

    class Mine(Trace_ELBO):
        def terms(self, model, guide, x):
            terms = FreeBits(0.0).terms(model, guide, x)
            return Terms(7 * terms.loss, terms.reconstruction, terms.kl) if told else terms._replace(kl=None)

    pair = Told()
    result = fit(pair, pair.guide, points(), epochs=1, lr=1e-9, objective=Mine())
    (row,) = result.history
    assert row["kl"] == pytest.approx(KL, rel=1e-6)
    assert row["elbo"] == pytest.approx(row["reconstruction"] - KL, rel=1e-6)
    assert row["loss"] == pytest.approx(-row["elbo"] * (7 if told else 1), rel=1e-9)


@pytest.mark.slow
def test_a_weight_on_the_kl_of_drawn_classes_by_a_score_function():
    """Pyro's TraceGraph_ELBO under the weight: E_q[log p(x|z)] − 3 KL and its gradient, summed over classes by hand, at 5 standard
    errors of 300 estimates; and `fit` trains by it, eagerly."""
    x = torch.randn(50, 1).double()
    logits = torch.tensor([0.4, -0.3]).double().requires_grad_()

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Categorical(x.new_ones(2) / 2))
            pyro.sample("x", dist.Normal(z.double().unsqueeze(-1), 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Categorical(logits=pyro.param("logits", logits)).expand([len(x)]))

    q = logits.log_softmax(-1)
    each = 3 * (q - math.log(0.5)) - dist.Normal(torch.arange(2.0), 1.0).log_prob(x).sum(0) / len(x)
    exact = len(x) * (q.exp() * each).sum()
    (slope,) = torch.autograd.grad(exact, logits)
    guide(x)
    leaf = pyro.get_param_store()._params["logits"]
    losses, slopes = [], []
    for _ in range(300):
        leaf.grad = None
        losses.append(Beta(3.0).loss_and_grads(model, guide, x))
        slopes.append(leaf.grad.clone())
    for found, expected in ((torch.tensor(losses).double(), exact), (torch.stack(slopes), slope)):
        assert ((found.mean(0) - expected).abs() < 5 * found.std(0) / 300**0.5).all()
    with pytest.raises(InvalidInputError, match="has no loss that can be differentiated here, because TraceGraph_ELBO"):
        Beta(3.0).differentiable_loss(model, guide, x)
    result = fit(model, guide, x, epochs=2, objective=Beta(3.0))
    assert result.execution == "eager steps: TraceGraph_ELBO reads its loss on the host"
    assert math.isnan(result.history[-1]["elbo"])
