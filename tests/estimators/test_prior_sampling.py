"""Naive Monte Carlo: exact in one dimension, hopeless in thirty, and one decoder pass for all points."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from gaussians import Wrong

import pyrovae
from pyrovae import InvalidInputError, evaluate
from pyrovae.estimators.prior_sampling import prior_sampling_log_likelihood


def lines(latent, dim=30, sigma=0.7):
    """PPCA of `latent` orthogonal directions, with its exact guide."""
    W = 2 * torch.linalg.qr(torch.randn(dim, latent).double())[0]
    wrong = Wrong(W, sigma, torch.ones(latent).double())
    wrong.D = 1 / wrong.P.diagonal()
    return wrong


def test_against_the_exact_value_in_low_dimension(seed):
    wrong = lines(1)
    x = wrong.draw(60)
    found = prior_sampling_log_likelihood(wrong.model, x, num_samples=20_000, seed=seed)
    assert found.shared
    error = found.log_likelihood - wrong.log_prob(x)
    assert (error.abs() < 6 * found.log_likelihood_se).all()
    assert abs(error.mean()) < 6 * found.mean_log_likelihood.mc_se
    assert found.high_pareto_k_fraction < 0.2


def test_it_fails_as_the_latent_space_grows_where_the_guide_does_not(seed):
    shares, sizes, short = [], [], []
    for latent in (1, 8, 30):
        wrong = lines(latent)
        x = wrong.draw(30)
        naive = prior_sampling_log_likelihood(wrong.model, x, num_samples=5000, seed=seed)
        guided = evaluate(*wrong.pair, x, num_samples=100, seed=seed)
        torch.testing.assert_close(guided.log_likelihood, wrong.log_prob(x), rtol=0, atol=1e-9)
        shares.append(naive.high_pareto_k_fraction)
        sizes.append(float(naive.ess.mean()))
        short.append(float((wrong.log_prob(x) - naive.log_likelihood).mean()))
    assert shares[0] < 0.2
    assert shares[2] == 1.0
    assert sizes[0] > 500 > 20 > sizes[2]
    assert abs(short[0]) < 0.1
    assert short[2] > 10


def test_one_decoder_pass_serves_all_points():
    rows = []
    model, _ = pyrovae.load("vae")(6, latent=2, hidden=(5,))
    model.decoder.register_forward_hook(lambda module, args, out: rows.append(args[0].reshape(-1, 2).shape[0]))
    x = torch.rand(50, 6)
    prior_sampling_log_likelihood(model, x, num_samples=1000)
    assert sum(rows) == 1000 + 2 * 50 + 2  # the draws; and what looks the model over, at two runs and at two draws
    before = torch.get_rng_state()
    first, second = (prior_sampling_log_likelihood(model, x, num_samples=100, seed=2) for _ in range(2))
    assert torch.equal(first.log_likelihood, second.log_likelihood)
    assert torch.equal(torch.get_rng_state(), before)


def test_points_with_priors_of_their_own_get_draws_of_their_own(seed):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x[:, 1], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    x = torch.randn(20, 2).double()
    found = prior_sampling_log_likelihood(model, x, num_samples=5000, seed=seed)
    assert not found.shared
    expected = dist.Normal(x[:, 1], math.sqrt(2)).log_prob(x[:, 0])
    assert ((found.log_likelihood - expected).abs() < 6 * found.log_likelihood_se).all()


def test_inner_plates_several_latents_and_marked_ones(seed):
    """log p(x) = log Σ_k π_k Π_d ∫ N(u; m_k, 1) N(x_d; u, 1) du."""
    share, centre = torch.tensor([0.3, 0.7]).double(), torch.tensor([-1.0, 1.0]).double()

    def model(x):
        with pyro.plate("data", len(x), dim=-2):
            k = pyro.sample("k", dist.Categorical(share), infer={"enumerate": "parallel"})
            with pyro.plate("parts", 2, dim=-1):
                u = pyro.sample("u", dist.Normal(centre[k], 1.0))
                pyro.sample("x", dist.Normal(u, 1.0), obs=x)

    x = torch.randn(10, 2).double()
    found = prior_sampling_log_likelihood(model, x, num_samples=20_000, seed=seed)
    assert found.shared
    each = dist.Normal(centre, math.sqrt(2)).log_prob(x.unsqueeze(-1)).sum(dim=1)
    assert ((found.log_likelihood - (each + share.log()).logsumexp(-1)).abs() < 6 * found.log_likelihood_se).all()


def test_a_model_that_looks_at_x_beside_z(seed):
    """An autoregressive likelihood: x₂ is drawn around x₁ and z."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(()).double(), 1.0))
            pyro.sample("x1", dist.Normal(z, 1.0), obs=x[:, 0])
            pyro.sample("x2", dist.Normal(z + x[:, 0], 1.0), obs=x[:, 1])

    x = torch.randn(10, 2).double()
    found = prior_sampling_log_likelihood(model, x, num_samples=20_000, seed=seed)
    assert found.shared
    seen = torch.stack([x[:, 0], x[:, 1] - x[:, 0]], dim=-1)
    covariance = torch.eye(2).double() + torch.ones(2, 2).double()
    expected = dist.MultivariateNormal(torch.zeros(2).double(), covariance).log_prob(seen)
    assert ((found.log_likelihood - expected).abs() < 6 * found.log_likelihood_se).all()


def test_bad_input():
    model, _ = pyrovae.load("ppca")(4, latent=2)
    with pytest.raises(InvalidInputError, match="give a whole number, at least 1"):
        prior_sampling_log_likelihood(model, torch.randn(3, 4), num_samples=0)
    with pytest.raises(InvalidInputError, match="Site 'x' is of shape \\(4,\\) for each point"):
        prior_sampling_log_likelihood(model, torch.randn(3, 5))
