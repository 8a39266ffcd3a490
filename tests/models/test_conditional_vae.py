"""log p(x|c) by quadrature over one latent number; what is given is never scored."""

import math

import pytest
import torch

import pyrovae
from pyrovae import check_pair, evaluate, fit, load, load_data


def labelled(count=150):
    torch.manual_seed(0)
    label = torch.arange(count) % 3
    c = torch.eye(3)[label]
    z = torch.randn(count, 1)
    x = c @ torch.randn(3, 4) + z * torch.randn(1, 4) + 0.3 * torch.randn(count, 4)
    return torch.cat([x, c], dim=-1)


def test_evidence_against_quadrature(seed):
    x = labelled()
    options = {"given": 3, "latent": 1, "hidden": (16,), "likelihood": pyrovae.likelihoods.FixedNormal(0.4)}
    model, guide = load("conditional_vae")(7, **options)
    check_pair(model, guide, x[:12])
    fit(model, guide, x, epochs=40, batch_size=50, lr=1e-2, compile=False)
    model, guide, x = model.double(), guide.double(), x[:6].double()
    steps, width = 2000, 9.0
    z = ((torch.arange(steps).double() + 0.5) / steps * 2 * width - width).unsqueeze(-1)
    with torch.no_grad():
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).squeeze(-1)
        log_p = []
        for row in x:
            eta = model.decoder(torch.cat([z, row[4:].expand(steps, 3)], dim=-1)) + model.offset
            seen = torch.distributions.Normal(model.centre + model.scale * eta, 0.4).log_prob(row[:4]).sum(-1)
            log_p.append((prior + seen).logsumexp(0) + math.log(2 * width / steps))
    found = evaluate(model, guide, x, num_samples=20_000, seed=seed)
    assert found.dim == 4
    assert ((found.log_likelihood - torch.stack(log_p)).abs() < 6 * found.log_likelihood_se + 1e-4).all()


@pytest.mark.slow
def test_knowing_the_label_helps():
    """Against the same model told nothing (a column of zeros): a paired difference of at least 2 standard errors."""
    x = labelled(300)
    blind = torch.cat([x[:, :4], torch.zeros(300, 3)], dim=-1)
    found = []
    for points in (blind, x):
        torch.manual_seed(0)
        model, guide = load("conditional_vae")(
            7, given=3, latent=1, hidden=(16,), likelihood=pyrovae.likelihoods.FixedNormal(0.4)
        )
        fit(model, guide, points, epochs=60, batch_size=100, lr=1e-2, compile=False)
        found.append(evaluate(model, guide, points, num_samples=200).log_likelihood)
    difference = found[1] - found[0]
    assert difference.mean() > 2 * difference.std() / 300**0.5


def test_draws_have_the_moments_of_a_linear_decoder(seed):
    """Without hidden layers x|c ~ N(W_z z + W_c c + b, σ²I): mean W_c c + b, covariance W_z W_zᵀ + σ²I, 6 standard errors."""
    model, _ = load("conditional_vae")(7, given=3, latent=2, hidden=(), likelihood=pyrovae.likelihoods.FixedNormal(0.5))
    model = model.double()
    c = torch.tensor([0.2, 1.0, -0.5]).double()
    draws = model.draw(c.expand(20_000, 3))
    linear = model.decoder[0]
    with torch.no_grad():
        mean = linear.weight[:, 2:] @ c + linear.bias + model.offset
        covariance = linear.weight[:, :2] @ linear.weight[:, :2].mT + 0.25 * torch.eye(4)
    assert draws.shape == (20_000, 4)
    assert ((draws.mean(0) - mean).abs() < 6 * (covariance.diagonal() / 20_000).sqrt()).all()
    variance = covariance.square() + covariance.diagonal() * covariance.diagonal()[:, None]  # of a product's
    assert ((torch.cov(draws.mT) - covariance).abs() < 6 * (variance / 20_000).sqrt()).all()


def test_sample_says_what_it_cannot_draw():
    model, _ = load("conditional_vae")(7, given=3, latent=2)
    with pytest.raises(pyrovae.InvalidInputError, match=r"x's shape \(7,\), but \(4,\) at 'x': .*model.draw\(c\)"):
        pyrovae.sample(model, 5, torch.rand(9, 7))


def test_bits_of_a_part_are_said_only_where_they_are_known():
    """A transform's Jacobian is of all of x: of a part there are no bits per dimension, but of a probability, which has none."""
    x = labelled()[:20]
    model, guide = load("conditional_vae")(7, given=3, latent=1, hidden=(8,))
    transform = load_data("digits").transform
    assert evaluate(model, guide, x, num_samples=10, transform=transform).bits_per_dim is None
    binary = (x > 0.5).float()
    model, guide = load("conditional_vae")(
        7, given=3, latent=1, hidden=(8,), likelihood=pyrovae.likelihoods.Bernoulli()
    )
    found = evaluate(model, guide, binary, num_samples=10)
    assert found.bits_per_dim == pytest.approx(-found.mean_log_likelihood.value / (4 * math.log(2)))


def test_columns_that_cannot_be_given():
    for given in (0, 7):
        with pytest.raises(pyrovae.InvalidInputError, match="leave at least 1"):
            load("conditional_vae")(7, given=given)
