"""IWAE and the Rényi bounds: against Trace_ELBO, log_weights, quadrature and closed forms."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from gaussians import random_wrong
from pyro.infer import SVI, Trace_ELBO
from torch import nn

import pyrovae
from pyrovae import InvalidInputError, fit, log_likelihood, log_weights
from pyrovae.objectives import IWAE, STL, DReG, Objective, Renyi, warm_up
from pyrovae.pair.structure import inspect

SIGMA = 0.8
X = torch.tensor([[-1.5], [0.2], [2.0]]).double()


def plate(x, size):
    return pyro.plate("data", size or len(x), subsample=x if size else None)


class Encoder(pyrovae.Module):
    """q(z|x) = N(ax + b, e^2r)."""

    def __init__(self, size):
        super().__init__()
        self.a, self.b, self.r = (nn.Parameter(torch.tensor(value).double()) for value in (0.3, 0.2, -0.3))
        self.size = size

    def forward(self, x):
        with plate(x, self.size):
            pyro.sample("z", dist.Normal(self.a * x + self.b, self.r.exp()).to_event(1))


class Line(pyrovae.Module):
    """z ~ N(0, 1), x|z ~ N(wz, σ²), and its guide; `size` is the plate's, if not the batch's."""

    def __init__(self, size=None):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.3).double())
        self.guide = Encoder(size)
        self.size = size

    def forward(self, x):
        with plate(x, self.size):
            z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.w * z, SIGMA).to_event(1), obs=x)

    @property
    def leaves(self):
        return [self.w, self.guide.a, self.guide.b, self.guide.r]


def normal(value, loc, scale):
    return -0.5 * ((value - loc) / scale).square() - torch.as_tensor(scale).log() - 0.5 * math.log(2 * math.pi)


def nodes(count=60):
    """Gauss–Hermite nodes and log-weights of N(0, 1)."""
    from numpy.polynomial.hermite_e import hermegauss

    points, weights = (torch.tensor(values) for values in hermegauss(count))
    return points, (weights / weights.sum()).log()


def weights_at(line, x, noise):
    """log w (K, N, …) at z = ax + b + e^r ε: written out, with the density's own parameters, and with them held still."""
    loc, scale = line.guide.a * x + line.guide.b, line.guide.r.exp()
    z = loc + scale * noise
    log_p = normal(z, 0.0, 1.0) + normal(x, line.w * z, SIGMA)
    still = log_p - normal(z, loc.detach(), scale.detach())
    return log_p - normal(z, loc, scale), still


def exact_bound(line, bound):
    """Σ_n E bound(log w of two draws), by quadrature over both."""
    e, weight = nodes()
    noise = torch.stack(torch.broadcast_tensors(e[:, None], e[None, :])).unsqueeze(1)  # (2, 1, M, M)
    values = bound(weights_at(line, X[:, :, None], noise)[0])
    return (values * (weight[:, None] + weight[None, :]).exp()).sum()


def mean_gradient(objective, line, calls=150, copies=200, beta=1.0):
    """The objective's gradient for the three points, by Monte Carlo: means and standard errors of w, a, b, r."""
    structure = inspect(line, line.guide, X)
    found = []
    for _ in range(calls):
        with warm_up(beta):
            loss = objective.batch(line, line.guide, X.repeat(copies, 1), structure).loss / copies
        found.append(-torch.stack(torch.autograd.grad(loss, line.leaves)))
    every = torch.stack(found)
    return every.mean(0), every.std(0) / calls**0.5


@pytest.mark.parametrize("objective", [IWAE(1), Renyi(0.3, 1), Renyi(-math.inf, 1)], ids=repr)
def test_one_sample_is_trace_elbo_in_value_and_gradient(objective, seed):
    line = Line()
    found = []
    for chosen in (objective, Trace_ELBO()):
        torch.manual_seed(seed)
        loss = chosen.differentiable_loss(line, line.guide, X)
        found.append([loss.detach(), *torch.autograd.grad(loss, line.leaves)])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["ppca", "vae", "hierarchical_vae", "gmvae", "gaussian"])
def test_the_value_is_log_likelihood_of_the_same_log_weights(name, seed):
    """Summed over points; and beside it the ELBO's two parts. A class that is summed out, several latents, and none."""
    model, guide = (half.double() if isinstance(half, nn.Module) else half for half in pyrovae.load(name)(4))
    x = torch.rand(5, 4).double()
    structure = inspect(model, guide, x)
    torch.manual_seed(seed)
    log_w = log_weights(model, guide, x, 7)
    for objective in (IWAE(7), STL(7), DReG(7)):
        torch.manual_seed(seed)
        terms = objective.batch(model, guide, x, structure)
        assert terms.loss.item() == pytest.approx(-log_likelihood(log_w).sum().item(), rel=1e-10)
        assert (terms.reconstruction - terms.kl).item() == pytest.approx(log_w.mean(0).sum().item(), rel=1e-10)


def test_the_scale_of_a_subsample_stands_outside_the_logarithm(seed):
    """3 points of 12: four times the loss and gradient, the same number per point in `fit`."""
    found = []
    for line in (Line(), Line(size=12)):
        torch.manual_seed(seed)
        loss = IWAE(4).differentiable_loss(line, line.guide, X)
        found.append(torch.stack([loss.detach(), *torch.autograd.grad(loss, line.leaves)]))
    torch.testing.assert_close(found[1], 4 * found[0], rtol=1e-10, atol=1e-10)
    rows = [
        fit(line, line.guide, X, epochs=1, batch_size=None, objective=IWAE(4), lr=1e-9).history[0]
        for line in (Line(), Line(size=12))
    ]
    for name in ("loss", "elbo", "reconstruction", "kl"):
        assert rows[1][name] == pytest.approx(rows[0][name], rel=1e-6)


@pytest.mark.parametrize("objective", [IWAE(2), Renyi(0.5, 2), DReG(2)], ids=repr)
def test_the_gradient_is_that_of_the_bound_in_expectation(objective):
    """∇E L_2 by quadrature; four numbers at 5 standard errors, a false alarm in 4 · 10⁵ (Student's t of 149)."""
    line = Line()
    exact = torch.stack(torch.autograd.grad(exact_bound(line, objective.bound), line.leaves))
    mean, se = mean_gradient(objective, line)
    assert ((mean - exact).abs() < 5 * se).all()
    assert (se < 0.02 * exact.abs().max()).all()  # it could have failed


@pytest.mark.parametrize("objective", [IWAE(2), DReG(2)], ids=repr)
def test_in_a_warm_up_it_is_that_of_the_warmed_bound(objective):
    """E log ½ Σ_s exp(log p(x|z_s) + β [log p(z_s) − log q(z_s|x)]), β = 0.3: a path that stood for all of the score, where β of it is
    in the bound, would miss by tens of standard errors. 5 of them, four numbers: a false alarm in 400,000."""
    line, beta = Line(), 0.3
    e, weight = nodes()
    noise = torch.stack(torch.broadcast_tensors(e[:, None], e[None, :])).unsqueeze(1)
    loc, scale = line.guide.a * X[:, :, None] + line.guide.b, line.guide.r.exp()
    z = loc + scale * noise
    log_w = normal(X[:, :, None], line.w * z, SIGMA) + beta * (normal(z, 0.0, 1.0) - normal(z, loc, scale))
    bound = ((log_w.logsumexp(0) - math.log(2)) * (weight[:, None] + weight[None, :]).exp()).sum()
    exact = torch.stack(torch.autograd.grad(bound, line.leaves))
    mean, se = mean_gradient(objective, line, beta=beta)
    assert ((mean - exact).abs() < 5 * se).all()


def test_stl_is_biased_for_several_samples_as_is_known():
    """Its guide's gradient is E Σ w̃_s ∂ log w_s/∂z_s · dz_s/dφ (by quadrature), which is not ∇L_2; its model's is, and at one
    sample all is the ELBO's."""
    line = Line()
    e, weight = nodes()
    noise = torch.stack(torch.broadcast_tensors(e[:, None], e[None, :])).unsqueeze(1)
    log_w, still = weights_at(line, X[:, :, None], noise)
    along = (log_w.detach().softmax(0) * still).sum(0)
    expected = torch.stack(
        torch.autograd.grad((along * (weight[:, None] + weight[None, :]).exp()).sum(), line.leaves, retain_graph=True)
    )
    exact = torch.stack(torch.autograd.grad(exact_bound(line, log_likelihood), line.leaves))
    assert expected[0].item() == pytest.approx(exact[0].item(), rel=1e-6)
    mean, se = mean_gradient(STL(2), line)
    assert ((mean - expected).abs() < 5 * se).all()
    assert ((mean - exact)[1:].abs() > 5 * se[1:]).any()
    (mean, se), bound = mean_gradient(STL(1), line), exact_bound(line, lambda log_w: log_w.mean(0))
    assert ((mean - torch.stack(torch.autograd.grad(bound, line.leaves))).abs() < 5 * se).all()


def test_with_the_exact_posterior_the_guides_path_gradient_is_zero(seed):
    line = Line()
    with torch.no_grad():
        precision = 1 + line.w**2 / SIGMA**2
        line.guide.a.copy_(line.w / SIGMA**2 / precision)
        line.guide.b.zero_()
        line.guide.r.copy_(-0.5 * precision.log())
    for objective, vanishes in ((STL(5), True), (DReG(5), True), (IWAE(5), False)):
        torch.manual_seed(seed)
        loss = objective.differentiable_loss(line, line.guide, X)
        gradient = torch.stack(torch.autograd.grad(loss, line.leaves[1:]))
        assert (float(gradient.abs().max()) < 1e-10) == vanishes


# Rényi


def test_renyi_is_the_elbo_at_one_iwae_at_zero_and_falls_in_alpha(seed):
    line = Line()
    log_w = log_weights(line, line.guide, X, 30).detach()
    torch.testing.assert_close(Renyi(1.0, 30).bound(log_w), log_w.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(Renyi(0.0, 30).bound(log_w), IWAE(30).bound(log_w), rtol=1e-12, atol=0)
    for alpha in (1 - 1e-6, 1 + 1e-6):
        torch.testing.assert_close(Renyi(alpha, 30).bound(log_w), log_w.mean(0), rtol=0, atol=1e-4)
    ladder = torch.stack(
        [Renyi(alpha, 30).bound(log_w) for alpha in (-math.inf, -5.0, -1.0, 0.0, 0.5, 0.99, 1.0, 1.5, 3.0, 10.0)]
    )
    assert (ladder.diff(dim=0) < 0).all()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 1.5, -0.5])
def test_renyi_of_gaussians_is_the_closed_form(alpha):
    """log p(x) + log E_q[(p(z|x)/q)^(1−α)] / (1−α), at 5 standard errors of the delta method over 10⁵ draws."""
    wrong = random_wrong(ratio=1.1)
    x = wrong.draw(2)
    log_w = log_weights(*wrong.pair, x, 100_000)
    m = 1 - alpha
    expected = wrong.log_prob(x) + (math.log(wrong.moment(m)) / m if m else -wrong.gap)
    powers = torch.exp(m * (log_w - log_w.max(0).values)) if m else log_w
    relative = powers.std(0) / (powers.mean(0).abs() * abs(m) if m else 1.0) / len(log_w) ** 0.5
    error = (Renyi(alpha, len(log_w)).bound(log_w) - expected).abs()
    assert (error < 5 * relative + 1e-9).all()
    assert (relative < 0.05).all()


# what it takes


def test_pyros_svi_trains_by_it_with_parameters_of_the_store():
    def model(x):
        w = pyro.param("w", torch.tensor(0.5).double())
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(w * z, 0.5).to_event(1), obs=x)

    def guide(x):
        a = pyro.param("a", torch.tensor(0.1).double())
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(a * x, x.new_tensor(0.5)).to_event(1))

    x = 2.0 * torch.randn(200, 1).double()
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.02}), DReG(8))
    for _ in range(400):
        svi.step(x)
    variance = x.square().mean().item()  # w² + 0.25 at the maximum of log p(x)
    found = pyro.param("w").item() ** 2 + 0.25
    best, reached = (float(normal(x, 0.0, math.sqrt(v)).mean()) for v in (variance, found))
    assert best - reached < 0.05
    assert svi.evaluate_loss(x) / 200 == pytest.approx(-reached, abs=0.1)


def test_what_has_no_such_bound_is_refused_in_a_sentence():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Categorical(torch.ones(2) / 2))
            pyro.sample("x", dist.Normal(z.double().unsqueeze(-1), 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Categorical(logits=pyro.param("logits", torch.zeros(2))))

    with pytest.raises(
        InvalidInputError, match=r"DReG\(3\) moves the guide along its draws, and latent 'z' is drawn without"
    ):
        fit(model, guide, X, epochs=0, objective=DReG(3))
    with pytest.raises(InvalidInputError, match="has no log p"):
        fit(*pyrovae.load("autoencoder")(4), torch.rand(8, 4), epochs=0, objective=IWAE(3))
    for wrong in (lambda: IWAE(0), lambda: IWAE(2.5), lambda: Renyi(math.inf, 2), lambda: Renyi(math.nan, 2)):
        with pytest.raises(InvalidInputError, match="give "):
            wrong()


def test_they_are_called_as_they_are_written():
    assert [repr(o) for o in (IWAE(50), Renyi(-math.inf, 2), Renyi(0.5, 5))] == [
        "IWAE(50)",
        "Renyi(-inf, 2)",
        "Renyi(0.5, 5)",
    ]
    assert isinstance(IWAE(2), Objective)
