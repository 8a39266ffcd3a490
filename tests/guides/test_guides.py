"""Guide families held to quadrature, to autograd's Jacobians, and to one another on a decoder that stands still."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import MixtureOfDiagNormals
from torch import nn

import pyrovae
from pyrovae import evaluate, fit, load, log_weights
from pyrovae.distributions.mixture_normal import MixtureNormal
from pyrovae.pair.parameters import is_per_point

FLOWS = (pyrovae.guides.IAF, pyrovae.guides.AffineCoupling, pyrovae.guides.NeuralSpline)
FAMILIES = (
    pyrovae.guides.MeanField,
    pyrovae.guides.LowRank,
    pyrovae.guides.FullCovariance,
    pyrovae.guides.Mixture,
    *FLOWS,
)


def far_from_start(family, dim=4, latent=2, **given):
    """In double precision, its parameters moved: near the start every family is nearly the standard normal."""
    guide = family(dim, latent, (16,), **given).double()
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return guide


def posterior(guide, x):
    return guide.distribution(guide.encoder(x))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_density_integrates_to_one(family, seed):
    """The midpoint rule on 500 × 500 cells: its error is far below 1e-3, and a lost Jacobian factor is not."""
    guide = far_from_start(family, **({"width": 16} if family in FLOWS else {}))
    with torch.no_grad():
        q = posterior(guide, torch.rand(1, 4).double())
        draws = q.rsample((2000,))
        centre, width = draws.mean((0, 1)), 1.5 * (draws - draws.mean((0, 1))).abs().amax((0, 1)) + 3
        axis = (torch.arange(500).double() + 0.5) / 250 - 1
        grid = torch.cartesian_prod(axis, axis) * width + centre
        total = q.log_prob(grid.unsqueeze(1)).exp().sum() * (width / 250).prod()
    assert float(total) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("family", FLOWS)
def test_a_flows_density_is_its_noises_over_the_jacobian(family, seed):
    guide = far_from_start(family, latent=3)
    q = posterior(guide, torch.rand(1, 4).double())

    def push(noise):
        for transform in q.transforms:
            noise = transform(noise)
        return noise[0]

    for _ in range(5):
        noise = torch.randn(1, 3).double()
        jacobian = torch.autograd.functional.jacobian(push, noise)[:, 0]
        expected = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum() - jacobian.slogdet().logabsdet
        z = push(noise).clone()  # no transform knows it
        torch.testing.assert_close(q.log_prob(z.unsqueeze(0))[0], expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_draw_has_one_density_known_as_a_draw_or_met_anew(family, seed):
    """Cached by the transforms that made it, or inverted: the same number; and under sample dimensions too."""
    guide = far_from_start(family, latent=5)
    x = torch.rand(7, 4).double()
    with torch.no_grad():
        q = posterior(guide, x).expand((3, 7))
        z = q.rsample()
        own = q.log_prob(z)
        anew = posterior(guide, x).log_prob(z.clone())
        one = torch.stack([posterior(guide, x[n : n + 1]).log_prob(z[:, n].clone()) for n in range(7)], dim=1)
    torch.testing.assert_close(own, anew, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(own, one, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("family", FLOWS)
def test_a_draw_of_ones_own_is_scored_without_an_inverse(family, monkeypatch):
    """IAF's takes a pass for each latent number: what is trained must not pay for it."""
    guide = family(4, 5, (16,))
    q = posterior(guide, torch.rand(3, 4)).expand((2, 3))
    z = q.rsample()
    for transform in q.transforms:
        monkeypatch.setattr(transform, "_inverse", None)
    assert torch.isfinite(q.log_prob(z)).all()
    with pytest.raises(TypeError):
        q.log_prob(z.clone())


def test_low_rank_is_the_dense_normal():
    guide = far_from_start(pyrovae.guides.LowRank, latent=4, rank=3)
    x, z = torch.rand(5, 4).double(), torch.randn(5, 4).double()
    with torch.no_grad():
        outputs = guide.encoder(x)
        loc, rho, factor = outputs[:, :4], outputs[:, 4:8], outputs[:, 8:].reshape(5, 4, 3)
        sigma = nn.functional.softplus(rho + math.log(math.expm1(1))) + 1e-6
        covariance = torch.diag_embed(sigma**2) + factor @ factor.mT
        dense = torch.distributions.MultivariateNormal(loc, covariance).log_prob(z)
        torch.testing.assert_close(posterior(guide, x).log_prob(z), dense, rtol=1e-10, atol=1e-10)


def curved(z):
    return z[..., 0].sin() + z[..., 0] * z[..., 1].square() + 0.5 * z[..., 1]


def mixture_parameters():
    generator = torch.Generator().manual_seed(3)
    loc = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    scale = 0.4 + torch.rand(3, 2, generator=generator, dtype=torch.float64)
    return loc, scale, torch.randn(3, generator=generator, dtype=torch.float64)


def test_a_mixtures_pathwise_gradient_is_the_integrals(seed):
    """d/dφ E_q[f(z)] by quadrature, of Pyro's density, beside the mean over 20,000 draws: 6 standard errors."""
    parameters = [p.requires_grad_() for p in mixture_parameters()]
    axis = (torch.arange(500).double() + 0.5) / 500 * 16 - 8
    grid = torch.cartesian_prod(axis, axis)
    integral = (MixtureOfDiagNormals(*parameters).log_prob(grid).exp() * curved(grid)).sum() * (16 / 500) ** 2
    expected = torch.autograd.grad(integral, parameters)
    each = [p.detach().expand(20_000, *p.shape).clone().requires_grad_() for p in parameters]
    found = torch.autograd.grad(curved(MixtureNormal(*each).rsample()).sum(), each)
    for exact, draws in zip(expected, found, strict=True):
        error = draws.std(0) / 20_000**0.5
        assert ((draws.mean(0) - exact).abs() < 6 * error + 1e-6).all()


def test_a_mixture_of_many_and_of_one_number_has_a_gradient():
    """Where a density is 1e-90 in single precision, with equal components, and in one dimension: Pyro's is not a number."""
    for latent in (1, 200):
        loc = torch.zeros(2, 3, latent, requires_grad=True)
        z = MixtureNormal(loc, torch.ones(2, 3, latent), torch.zeros(2, 3)).rsample()
        gradient = torch.autograd.grad(z.sum(), loc)[0]
        torch.testing.assert_close(gradient, torch.full_like(gradient, 1 / 3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_wrong_encoders_are_refused(family):
    right = family(4, 3).num_outputs(3)
    guide = family(4, 3, encoder=nn.Linear(4, right + 1))
    with pytest.raises(pyrovae.InvalidInputError, match=rf"returns \(2, {right + 1}\) .* needs \(2, {right}\)"):
        guide(torch.rand(2, 4))
    family(4, 3, encoder=nn.Linear(4, right))(torch.rand(2, 4))


def test_sizes_that_cannot_be_are_refused():
    for family in FLOWS:
        with pytest.raises(pyrovae.InvalidInputError, match="one latent number by another"):
            family(4, 1)
    with pytest.raises(pyrovae.InvalidInputError, match="rank=0"):
        pyrovae.guides.LowRank(4, 2, rank=0)
    with pytest.raises(pyrovae.InvalidInputError, match="count=0"):
        pyrovae.guides.Mixture(4, 2, count=0)
    with pytest.raises(pyrovae.InvalidInputError, match="latent=0"):
        pyrovae.guides.MeanField(4, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_gradient_reaches_every_parameter(family):
    """Not only some tensor of zeros: every parameter tensor has a number that moves the ELBO."""
    model, _ = load("ppca")(4, latent=3)
    guide = far_from_start(family, latent=3)
    log_weights(model.double(), guide, torch.rand(50, 4).double(), 4).mean().backward()
    for name, parameter in guide.named_parameters():
        assert bool((parameter.grad != 0).any()), name


@pytest.fixture(scope="module")
def bent():
    """A decoder of two latents whose posteriors are bent, and that stands still: trained a little, then frozen."""
    torch.manual_seed(0)
    z = torch.randn(300, 2)
    x = torch.stack([z[:, 0] + 0.8 * z[:, 1] ** 2, z[:, 0] * z[:, 1], z[:, 1].sin()], dim=-1)
    x = x + 0.3 * torch.randn(300, 3)
    likelihood = pyrovae.likelihoods.FixedNormal(0.3)
    model, guide = load("vae")(3, latent=2, hidden=(16,), likelihood=likelihood, guide=pyrovae.guides.FullCovariance)
    fit(model, guide, x, epochs=60, batch_size=50, lr=1e-2, compile=False)
    return model.requires_grad_(False), x


def trained(model, x, guide, epochs=120):
    fit(model, guide, x, epochs=epochs, batch_size=100, lr=1e-2, compile=False)
    return evaluate(model, guide, x, num_samples=400).elbo.double()


@pytest.mark.slow
def test_a_richer_family_has_a_smaller_gap(bent):
    """The ELBO of one decoder, so differences of ELBOs are differences of gaps: each at least 2 standard errors over points."""
    model, x = bent
    torch.manual_seed(0)
    elbo = [
        trained(model, x, family(3, 2, (32,)))
        for family in (pyrovae.guides.MeanField, pyrovae.guides.FullCovariance, pyrovae.guides.AffineCoupling)
    ]
    for poorer, richer in itertools.pairwise(elbo):
        difference = richer - poorer
        assert difference.mean() > 2 * difference.std() / len(x) ** 0.5


def test_points_of_their_own_lose_nothing_to_a_network(bent):
    model, x = bent
    x = x[:60]
    torch.manual_seed(0)
    amortised = pyrovae.guides.FullCovariance(3, 2, (8,))
    before = trained(model, x, amortised, epochs=40)
    own = pyrovae.guides.PerPoint.starting_at(amortised, x)
    assert is_per_point(own, x)
    torch.manual_seed(1)
    same = log_weights(model, amortised, x, 3)
    torch.manual_seed(1)
    assert torch.equal(log_weights(model, own, x, 3), same)
    fit(model, own, x, epochs=300, batch_size=None, lr=2e-2, compile=False)
    difference = evaluate(model, own, x, num_samples=400).elbo.double() - before
    assert difference.mean() > 2 * difference.std() / len(x) ** 0.5
    torch.manual_seed(1)
    assert torch.equal(log_weights(model, amortised, x, 3), same)  # what it started at stays


@pytest.mark.parametrize("family", FAMILIES)
def test_per_point_in_every_family(family):
    model, _ = load("ppca")(4, latent=2)
    x = torch.rand(6, 4)
    guide = pyrovae.guides.PerPoint(6, 2, family)
    pyrovae.check_pair(model, guide, x)
    assert is_per_point(guide, x)
    with pytest.raises(pyrovae.InvalidInputError, match="each of 6 points, and is given 5"):
        guide(x[:5])
    amortised = family(4, 2, (8,))
    own = pyrovae.guides.PerPoint.starting_at(amortised, x)
    torch.manual_seed(0)
    expected = log_weights(model, amortised, x, 2)
    torch.manual_seed(0)
    torch.testing.assert_close(log_weights(model, own, x, 2), expected)


@pytest.mark.parametrize("name", ["vae", "ppca", "hierarchical_vae"])
def test_no_pair_is_built_with_a_guide_of_single_points(name):
    """Whatever arguments the builder has for a guide."""
    with pytest.raises(pyrovae.InvalidInputError, match=r"belongs to points, .* guide = PerPoint\(len\(x\), latent\)"):
        load(name)(4, guide=pyrovae.guides.PerPoint)


def test_per_point_finds_the_exact_posterior():
    """PPCA's posterior is a Gaussian of full covariance: with a q for each point the gap closes, to a named 0.01 nats."""
    torch.manual_seed(0)
    model, _ = load("ppca")(4, latent=2)
    x = torch.randn(10, 4)
    model.requires_grad_(False)
    guide = pyrovae.guides.PerPoint(10, 2, pyrovae.guides.FullCovariance)
    fit(model, guide, x, epochs=600, batch_size=None, lr=4e-2, compile=False)
    found = evaluate(model, guide, x, num_samples=1000)
    assert ((found.exact_log_likelihood - found.elbo).abs() < 0.01 + 6 * found.elbo_se).all()


def test_a_network_with_as_many_rows_as_points_is_shared_by_them():
    """20 latents have 40 outputs, and 40 points are given: the network's rows are no parameters of single points."""
    guide = pyrovae.guides.MeanField(3, 20, (40,))
    for points in (2, 3, 40):
        assert not is_per_point(guide, torch.rand(points, 3))


def test_rows_that_a_guide_of_your_own_takes_by_place_are_per_point():
    """It accepts fewer points than it has rows, so that no error gives it away."""
    location = torch.zeros(7, 2)

    def guide(x):
        rows = pyro.param("rows_by_place", location)[: len(x)]
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(rows, 1.0).to_event(1))

    assert is_per_point(guide, torch.rand(7, 3))
    assert not is_per_point(guide, torch.rand(6, 3))
    with torch.inference_mode():
        assert is_per_point(guide, torch.rand(7, 3))
