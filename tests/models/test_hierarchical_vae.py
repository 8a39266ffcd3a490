"""Two layers of one latent number each, where log p(x) can be had by quadrature over both."""

import math

import pytest
import torch

import pyrovae
from pyrovae import check_pair, evaluate, fit, load

GUIDES = {guide.__name__: guide for guide in load("hierarchical_vae").module.GUIDES}


def data():
    torch.manual_seed(0)
    return torch.sigmoid(2 * torch.randn(150, 2) @ torch.randn(2, 4) + 0.3 * torch.randn(150, 4))


@pytest.mark.parametrize("guide", GUIDES)
def test_evidence_against_quadrature(guide, seed):
    x = data()
    options = {
        "latents": (1, 1),
        "hidden": (16,),
        "likelihood": pyrovae.likelihoods.FixedNormal(0.3),
        "guide": GUIDES[guide],
    }
    model, q = load("hierarchical_vae")(4, **options)
    fit(model, q, x, epochs=30, batch_size=50, lr=1e-2, compile=False)
    model, q, x = model.double(), q.double(), x[:6].double()
    steps, width = 600, 9.0
    axis = ((torch.arange(steps).double() + 0.5) / steps * 2 * width - width).unsqueeze(-1)
    cell = math.log(2 * width / steps)
    normal = torch.distributions.Normal
    with torch.no_grad():
        top = normal(0.0, 1.0).log_prob(axis).squeeze(-1)  # (z2,)
        loc, rho = model.given[0](axis).chunk(2, dim=-1)
        scale = torch.nn.functional.softplus(rho + math.log(math.expm1(1))) + 1e-6
        below = normal(loc, scale).log_prob(axis.squeeze(-1))  # (z2, z1)
        log_z1 = (top.unsqueeze(-1) + below).logsumexp(0) + cell
        seen = model.decode(axis)
        log_p = torch.stack([(log_z1 + seen.log_prob(point)).logsumexp(0) + cell for point in x])
    found = evaluate(model, q, x, num_samples=20_000, seed=seed)
    assert ((found.log_likelihood - log_p).abs() < 6 * found.log_likelihood_se + 1e-4).all()
    assert (found.elbo < log_p + 6 * found.elbo_se).all()


@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("latents", [(3, 2), (4, 3, 2)])
@pytest.mark.parametrize("hidden", [(), (8,), (12, 8)])
def test_every_depth_keeps_the_contract(guide, latents, hidden):
    options = {"latents": latents, "hidden": hidden, "guide": GUIDES[guide]}
    check_pair(*load("hierarchical_vae")(4, **options), data()[:12])


def test_a_product_of_normals_is_the_posterior_of_a_normal_mean():
    """Prior N(2, 3²), one observation −1 with noise 0.5: the textbook's posterior."""
    product = load("hierarchical_vae").module.product
    t = lambda *v: tuple(torch.tensor([float(a)]) for a in v)  # noqa: E731
    q = product(t(2, 3), t(-1, 0.5))
    variance = 1 / (1 / 9 + 1 / 0.25)
    assert float(q.mean) == pytest.approx(variance * (2 / 9 - 1 / 0.25))
    assert float(q.variance) == pytest.approx(variance)


@pytest.mark.slow
def test_training_raises_a_bound_that_stays_below_more_samples():
    x = data()
    for guide in GUIDES.values():
        torch.manual_seed(0)
        model, q = load("hierarchical_vae")(4, latents=(3, 2), hidden=(16,), guide=guide)
        fit(model, q, x, epochs=0)
        before = evaluate(model, q, x, num_samples=100).mean_elbo.value
        fit(model, q, x, epochs=60, batch_size=50, lr=5e-3, compile=False)
        found = evaluate(model, q, x, num_samples=100)
        assert found.mean_elbo.value > before + 0.5
        assert found.mean_log_likelihood.value > found.mean_elbo.value


def test_one_layer_is_no_hierarchy():
    with pytest.raises(pyrovae.InvalidInputError, match="two layers or more"):
        load("hierarchical_vae")(4, latents=(3,))
    assert load("hierarchical_vae").parse(["latents=5,3,2", "guide=Ladder"])["latents"] == (5, 3, 2)
