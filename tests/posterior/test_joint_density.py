"""log p(x, u) in unconstrained space: against the same densities written out by hand."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoNormal

from pyrovae import InvalidInputError
from pyrovae.posterior.compiled_density import CompiledDensity, compile_density
from pyrovae.posterior.joint_density import Joint, per_point

X = torch.linspace(-2, 2, 12).double().reshape(4, 3)
ENUMERATE = {"enumerate": "parallel"}


def zeros(*shape):
    return torch.zeros(*shape, dtype=torch.float64)


# Two latents, one of them positive and scaling the other's support: w ~ Gamma(2, 3), z ~ U(0, w), x ~ N(z + μ, 1).


def dependent(x):
    with pyro.plate("data", len(x)):
        w = pyro.sample("w", dist.Gamma(2 * torch.ones(1).double(), 3.0).to_event(1))
        z = pyro.sample("z", dist.Uniform(torch.zeros_like(w), w).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).expand([*z.shape[:-1], 3]).to_event(1), obs=x)


def dependent_guide(x):
    with pyro.plate("data", len(x)):
        w = pyro.sample("w", dist.LogNormal(x[:, :1], 1.0).to_event(1))
        pyro.sample("z", dist.Uniform(torch.zeros_like(w), w).to_event(1))


def test_densities_of_latents_whose_support_depends_on_another_latent():
    """u = (log w, logit(z/w)): log|dw/du| = u₁ and log|dz/du| = log w + log σ(u₂) + log σ(−u₂)."""
    joint = Joint(dependent, dependent_guide, X)
    u = torch.randn(5, 4, 2).double()
    log_w, share = u[..., 0], torch.sigmoid(u[..., 1])
    w = log_w.exp()
    z = w * share
    jacobian = log_w + log_w + share.log() + (1 - share).log()
    prior = 2 * math.log(3) + log_w - 3 * w - log_w + jacobian  # Γ(2) = 1; p(z|w) = 1/w
    p = prior + dist.Normal(z[..., None], 1.0).log_prob(X).sum(-1)
    q = dist.LogNormal(X[:, 0], 1.0).log_prob(w) - log_w + jacobian
    torch.testing.assert_close(joint.log_p(u), p, rtol=0, atol=1e-10)
    for found, expected in zip(joint.log_prior_and_p(u), (prior, p), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    for found, expected in zip(joint.log_guide_and_p(u), (q, p), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert joint.size == 2


def test_draws_are_taken_to_the_reals_and_back():
    joint = Joint(dependent, dependent_guide, X)
    values = joint.latents(joint.draw_prior(50_000))
    w, z = values["w"][0], values["z"][0]
    assert abs(w.mean() - 2 / 3) < 6 * math.sqrt(2 / 9 / w.numel())
    assert ((z > 0) & (z < w)).all()
    assert abs((z / w).mean() - 0.5) < 6 * math.sqrt(1 / 12 / w.numel())
    guided = joint.latents(joint.draw_guide(50_000))["w"][0]
    error = (guided.log().mean(0)[:, 0] - X[:, 0]) * math.sqrt(50_000)
    assert error.abs().max() < 6


def test_a_simplex_has_one_number_less():
    concentration = torch.tensor([2.0, 3.0, 4.0]).double()

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Dirichlet(concentration))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Dirichlet(torch.ones(len(x), 3).double()))

    joint = Joint(model, guide, X)
    assert joint.size == 2
    grid = torch.linspace(-20, 20, 601, dtype=torch.float64)
    u = torch.cartesian_prod(grid, grid)
    prior, _ = joint.log_prior_and_p(u[:, None].expand(-1, 4, -1))
    area = (grid[1] - grid[0]) ** 2
    torch.testing.assert_close(prior.exp().sum(0) * area, torch.ones(4).double(), rtol=0, atol=1e-8)


def test_inner_plates_and_masks_on_either_side_of_the_points():
    """A latent for each point and each of 3 places, the points' plate outside; one place is masked away."""

    def model(x):
        with pyro.plate("data", len(x), dim=-2):
            a = pyro.sample("a", dist.Normal(zeros(1), 1.0))
            with pyro.plate("places", 3, dim=-1), poutine.mask(mask=torch.tensor([True, False, True])):
                b = pyro.sample("b", dist.Normal(a, 2.0))
                pyro.sample("x", dist.Normal(b, 0.5), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("a", dist.Normal(x.mean(1, keepdim=True), 1.0))
            with pyro.plate("places", 3, dim=-1):
                pyro.sample("b", dist.Normal(x, 1.0))

    joint = Joint(model, guide, X)
    u = torch.randn(5, 4, 4).double()
    a, b, seen = u[..., :1], u[..., 1:], torch.tensor([1.0, 0.0, 1.0]).double()
    prior = dist.Normal(0, 1).log_prob(a[..., 0]) + (seen * dist.Normal(a, 2.0).log_prob(b)).sum(-1)
    p = prior + (seen * dist.Normal(b, 0.5).log_prob(X)).sum(-1)
    q = dist.Normal(X.mean(1), 1.0).log_prob(a[..., 0]) + dist.Normal(X, 1.0).log_prob(b).sum(-1)
    for found, expected in zip(joint.log_prior_and_p(u), (prior, p), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(joint.log_guide_and_p(u)[0], q, rtol=0, atol=1e-10)
    torch.testing.assert_close(joint.draw_guide(20_000).mean(0)[:, 1:], X, rtol=0, atol=6 / math.sqrt(20_000))


# c ~ Cat, z ~ N(m_c, 1), x ~ N(z + s_c, 1): c is summed out, z is not.

SHARE, M, S = (torch.tensor(v, dtype=torch.float64) for v in ([0.2, 0.5, 0.3], [-2.0, 0.0, 3.0], [0.0, 1.0, -1.0]))


def mixed(x):
    with pyro.plate("data", len(x)):
        c = pyro.sample("c", dist.Categorical(SHARE), infer=ENUMERATE)
        z = pyro.sample("z", dist.Normal(M[c], 1.0))
        pyro.sample("x", dist.Normal((z + S[c]).unsqueeze(-1), 1.0).expand([*(z + c).shape, 3]).to_event(1), obs=x)


def mixed_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x.mean(-1), 1.0))


def test_discrete_latents_are_summed_out_of_prior_and_joint():
    joint = Joint(mixed, mixed_guide, X)
    u = torch.randn(5, 4, 1).double()
    prior = SHARE.log() + dist.Normal(M, 1.0).log_prob(u)
    p = prior + dist.Normal((u + S).unsqueeze(-1), 1.0).log_prob(X[:, None]).sum(-1)
    for found, expected in zip(joint.log_prior_and_p(u), (prior.logsumexp(-1), p.logsumexp(-1)), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.compiled
@pytest.mark.parametrize("pair", [(dependent, dependent_guide), (mixed, mixed_guide)], ids=["dependent", "mixed"])
def test_a_record_has_the_values_and_gradients_of_what_it_records(pair):
    joint = Joint(*pair, X)
    recorded = compile_density(joint.log_guide_and_p, torch.randn(5, 4, joint.size).double())
    assert isinstance(recorded, CompiledDensity)
    u = torch.randn(5, 4, joint.size).double()
    for ours, theirs in zip(recorded(u), per_point(joint.log_guide_and_p, u), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.compiled
def test_a_model_that_branches_on_its_latents_is_run_as_it_is():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(zeros(1), 1.0).to_event(1))
            z = z.square() if z.mean() > 0 else z  # not a density one should write
            pyro.sample("x", dist.Normal(z.expand(*z.shape[:-1], 3), 1.0).to_event(1), obs=x)

    joint = Joint(model, _plain, X)
    recorded = compile_density(lambda u: (joint.log_p(u),), torch.ones(2, 4, 1).double())
    for u in (torch.ones(2, 4, 1).double(), -torch.ones(2, 4, 1).double()):
        torch.testing.assert_close(recorded(u)[0][0], joint.log_p(u), rtol=0, atol=1e-10)


def _plain(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x[:, :1], 1.0).to_event(1))


# What it must refuse.


def test_discrete_latents_that_are_drawn():
    def model(x):
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(SHARE))
            pyro.sample("x", dist.Normal(M[c].unsqueeze(-1), 1.0).expand([*c.shape, 3]).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("c", dist.Categorical(SHARE.expand(len(x), 3)))

    with pytest.raises(InvalidInputError, match="Latent 'c' is discrete.*summed out, or use evaluate"):
        Joint(model, guide, X)


def test_nothing_continuous_to_move():
    def model(x):
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(SHARE), infer=ENUMERATE)
            pyro.sample("x", dist.Normal(M[c].unsqueeze(-1), 1.0).expand([*c.shape, 3]).to_event(1), obs=x)

    with pytest.raises(InvalidInputError, match="no continuous latent.*log p\\(x\\) already"):
        Joint(model, lambda x: None, X)


def test_a_guide_without_a_density():
    guide = AutoNormal(dependent)
    joint = Joint(dependent, guide, X)
    assert joint.draw_guide(3).shape == (3, 4, 2)
    with pytest.raises(InvalidInputError, match="cannot be asked for their density.*begin at the prior"):
        joint.log_guide_and_p(joint.draw_guide(3))


def test_weights_that_do_not_factorise():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(zeros(3), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0).to_event(1), obs=x)

    def guide(x):
        pyro.sample("mu", dist.Normal(zeros(3), 1.0).to_event(1))

    with pytest.raises(InvalidInputError, match="do not factorise over points"):
        Joint(model, guide, X)


def test_a_support_without_a_map():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.ProjectedNormal(torch.ones(3).double()))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.ProjectedNormal(torch.ones(len(x), 3).double()))

    with pytest.raises(InvalidInputError, match="'z' lives where torch has no map"):
        Joint(model, guide, X)
