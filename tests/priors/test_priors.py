"""Priors held to quadrature, to formulas written out, and to one another on digits."""

import math

import pytest
import torch

import pyrovae
from pyrovae import evaluate, fit, load

PRIORS = {
    "standard": pyrovae.priors.StandardNormal,
    "mixture": lambda: pyrovae.priors.MixtureOfGaussians(4),
    "vamp": lambda: pyrovae.priors.VampPrior(5),
    "flow": lambda: pyrovae.priors.FlowPrior(layers=3, width=16),
}
STEPS, WIDTH = 300, 9.0


def bound(kind, latent=2, dim=4, family=pyrovae.guides.MeanField):
    guide = family(dim, latent, (16,))
    prior = PRIORS[kind]().bind(dim, latent, guide).double()
    guide.double()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return prior, guide


def plane():
    axis = (torch.arange(STEPS).double() + 0.5) / STEPS * 2 * WIDTH - WIDTH
    return torch.cartesian_prod(axis, axis), 2 * math.log(2 * WIDTH / STEPS)


@pytest.mark.parametrize("kind", PRIORS)
def test_draws_come_from_the_density(kind, seed):
    """The density sums to 1 on a plane; means and second moments under it are those of 40,000 draws, 6 standard errors."""
    prior, _ = bound(kind)
    z, log_cell = plane()
    with torch.no_grad():
        p = prior(z)
        mass = (p.log_prob(z) + log_cell).exp()
        draws = p.sample((40_000,))
    assert float(mass.sum()) == pytest.approx(1, abs=1e-4)
    for power in (1, 2):
        expected, found = (mass.unsqueeze(-1) * z**power).sum(0), draws**power
        assert ((found.mean(0) - expected).abs() < 6 * found.std(0) / 200 + 1e-3).all()


def test_vamp_is_the_mean_of_the_guides_posteriors():
    """With the data themselves as pseudo-inputs it is the aggregate posterior, (1/N) Σ_n q(z|x_n), written out."""
    prior, guide = bound("vamp", family=pyrovae.guides.FullCovariance)
    x, z = torch.rand(5, 4).double(), torch.randn(7, 2).double()
    with torch.no_grad():
        prior.inputs.copy_(x)
        each = [guide.distribution(guide.encoder(point[None])).log_prob(z) for point in x]
        expected = torch.stack(each).logsumexp(0) - math.log(5)
        torch.testing.assert_close(prior(x).log_prob(z), expected, rtol=1e-10, atol=1e-10)


def test_vamp_begins_at_points_of_the_data():
    torch.manual_seed(0)
    x = torch.rand(40, 4)
    model, guide = load("vae")(4, latent=2, hidden=(8,), prior=pyrovae.priors.VampPrior(6))
    fit(model, guide, x, epochs=0)
    assert all(bool((x == row).all(-1).any()) for row in model.prior.inputs)


@pytest.mark.parametrize("kind", PRIORS)
@pytest.mark.parametrize("guide", [pyrovae.guides.MeanField, pyrovae.guides.AffineCoupling])
def test_contract_and_evidence_against_quadrature(kind, guide, seed):
    torch.manual_seed(0)
    z, log_cell = plane()
    x = torch.sigmoid(2 * torch.randn(100, 2) @ torch.randn(2, 4) + 0.3 * torch.randn(100, 4))
    likelihood = pyrovae.likelihoods.FixedNormal(0.3)
    model, q = load("vae")(4, latent=2, hidden=(16,), likelihood=likelihood, guide=guide, prior=PRIORS[kind]())
    pyrovae.check_pair(model, q, x[:12])
    fit(model, q, x, epochs=15, batch_size=50, lr=1e-2, compile=False)
    model, q, x = model.double(), q.double(), x[:5].double()
    with torch.no_grad():
        log_prior, decoded = model.prior(x).log_prob(z), model.decode(z)
        log_p = torch.stack([(log_prior + decoded.log_prob(point)).logsumexp(0) + log_cell for point in x])
    found = evaluate(model, q, x, num_samples=5000, seed=seed)
    assert ((found.log_likelihood - log_p).abs() < 6 * found.log_likelihood_se + 1e-4).all()
    assert (found.elbo < log_p + 6 * found.elbo_se).all()


@pytest.mark.parametrize("kind", PRIORS)
def test_log_p_is_found_about_the_modes_under_every_prior(kind, seed):
    """Three points against quadrature. A mixture has the support of its components, so that modes can be searched for."""
    torch.manual_seed(seed)
    x = torch.randn(3, 4).double()
    model, guide = load("vae")(4, latent=2, hidden=(8,), prior=PRIORS[kind]())
    model, guide = model.double(), guide.double()
    model.initialise(torch.randn(50, 4).double())
    model.initialised.fill_(True)
    z, log_cell = plane()
    with torch.no_grad():
        joint = model.prior(x).log_prob(z)[:, None] + model.decode(z[:, None]).log_prob(x)
        exact = joint.logsumexp(0) + log_cell
    found = evaluate(model, guide, x, seed=seed)
    assert set(found.method) <= {"laplace", "ais"}, found.reliability_message
    assert ((found.log_likelihood - exact).abs() < 6 * found.log_likelihood_se.clamp(min=1e-4)).all()


def test_a_prior_belongs_to_one_model():
    prior = pyrovae.priors.MixtureOfGaussians(3)
    load("vae")(4, latent=2, prior=prior)
    with pytest.raises(pyrovae.InvalidInputError, match="make one for each model"):
        load("vae")(4, latent=2, prior=prior)


def test_what_cannot_be_a_prior_is_refused():
    with pytest.raises(pyrovae.InvalidInputError, match="no encoder for a new u"):
        pyrovae.priors.VampPrior().bind(4, 2, pyrovae.guides.PerPoint(10, 2))
    with pytest.raises(pyrovae.InvalidInputError, match="count=0"):
        pyrovae.priors.MixtureOfGaussians(0)
    with pytest.raises(pyrovae.InvalidInputError, match="latent is 1"):
        pyrovae.priors.FlowPrior().bind(4, 1, None)


def test_a_prior_is_written_as_an_option():
    options = load("vae").parse(["prior=VampPrior(7)", "latent=3", "guide=IAF"])
    model, guide = load("vae")(6, **options)
    assert model.prior.inputs.shape == (7, 6)
    assert isinstance(guide, pyrovae.guides.IAF)
    assert isinstance(load("vae")(6, **load("vae").parse(["prior=FlowPrior"]))[0].prior, pyrovae.priors.FlowPrior)


@pytest.mark.slow
def test_vamp_beats_the_standard_normal_on_digits():
    """Binary digits, equal networks and training: log p̂(x) of each image, at least 2 standard errors of the paired difference."""
    data = pyrovae.load_data("digits", transform="threshold")
    found = []
    for prior in (pyrovae.priors.StandardNormal, pyrovae.priors.VampPrior):
        torch.manual_seed(0)
        options = {"latent": 16, "hidden": (64,), "likelihood": pyrovae.likelihoods.Bernoulli(), "prior": prior}
        model, guide = load("vae")(data.dim, **options)
        fit(model, guide, data.train, epochs=40, batch_size=100, lr=3e-3)
        found.append(evaluate(model, guide, data.test, num_samples=200).log_likelihood)
    difference = found[1] - found[0]
    assert difference.mean() > 2 * difference.std() / len(difference) ** 0.5
