"""Means, covariances, modes and draws of posteriors that are known: in closed form, by quadrature, by hand."""

import math

import arviz
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import pyrovae
from pyrovae import InvalidInputError, load
from pyrovae.posterior import batching, sample_posterior
from pyrovae.posterior.posterior_sampling import systematic_resampling, weighted_moments

ERRORS = 6  # standard errors: of the thousands of numbers under 100 seeds none is further off


def guide(x):
    """Draws z ~ N(0, 1), whatever x is."""
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(torch.tensor(0.0).double(), 1.0))


def squared(x):
    """z ~ N(0.2, 1), x ~ N(z², 0.2²): two modes near ±√x of unequal mass, or one near 0 where x is negative."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.tensor(0.2).double(), 1.0))
        pyro.sample("x", dist.Normal(z.square(), 0.2), obs=x[:, 0])


def squared_on_grid(x):
    """Probabilities (steps, N) of the posterior of `squared` on a fine grid of z (steps, 1)."""
    z = torch.linspace(-8, 8, 80_001, dtype=torch.float64).unsqueeze(-1)
    log_p = dist.Normal(0.2, 1.0).log_prob(z) + dist.Normal(z.square(), 0.2).log_prob(x[:, 0])
    return z, log_p.softmax(0)


@pytest.fixture
def ppca(seed):
    """PPCA of 3 latents, 12 points, and its posterior in closed form."""
    model, exact_guide = load("ppca")(6, latent=3)
    model.double().requires_grad_(False)
    x = torch.randn(12, 6).double()
    return model, exact_guide, x, model.posterior(x)


def test_a_gaussian_posterior(ppca, seed):
    """PPCA (Tipping & Bishop 1999): mean, covariance and log p(x) within their errors, the mode to Newton's tolerance."""
    model, exact_guide, x, exact = ppca
    result = sample_posterior(model, exact_guide, x, num_draws=4000, seed=seed)
    assert ((result.means["z"] - exact.mean).abs() < ERRORS * result.means_se["z"]).all()
    offset = result.weighted_draws["z"] - exact.mean
    products = offset.unsqueeze(-1) * offset.unsqueeze(-2) - exact.covariance_matrix
    error = (result.weights[..., None, None] * products).square().sum(0).sqrt()
    assert ((result.covariances["z"] - exact.covariance_matrix).abs() < ERRORS * error).all()
    assert ((result.log_likelihood - model.log_prob(x)).abs() < ERRORS * result.log_likelihood_se).all()
    torch.testing.assert_close(result.modes.latents["z"][0], exact.mean, rtol=0, atol=1e-2)
    assert (result.num_modes == 1).all()
    assert (result.modes.mass_share == 1).all()
    assert (result.ess > 2000).all()


def test_the_mass_of_two_modes(seed):
    """Mean, variance, and what share of the posterior lies on either side of 0, against quadrature."""
    x = torch.linspace(1.0, 2.0, 12).double()[:, None]
    z, probability = squared_on_grid(x)
    mean = (z * probability).sum(0)
    variance = ((z - mean).square() * probability).sum(0)
    right = probability[(z > 0).flatten()].sum(0)
    result = sample_posterior(squared, guide, x, num_draws=4000, seed=seed)
    draws, weights = result.weighted_draws["z"], result.weights
    assert ((result.means["z"] - mean).abs() < ERRORS * result.means_se["z"]).all()
    variance_se = (weights * ((draws - mean).square() - variance)).square().sum(0).sqrt()
    assert ((result.covariances["z"] - variance).abs() < ERRORS * variance_se).all()
    share_se = (weights * ((draws > 0).double() - right)).square().sum(0).sqrt()
    assert (((weights * (draws > 0)).sum(0) - right).abs() < ERRORS * share_se).all()
    modes = result.modes
    assert (modes.count == 2).all()
    laplace = torch.where(modes.latents["z"] > 0, modes.mass_share, 0.0)[:2].sum(0)
    torch.testing.assert_close(laplace, right, rtol=0, atol=0.01)
    torch.testing.assert_close(modes.mass_share.nansum(0), torch.ones(12).double())
    at_mode = dist.Normal(0.2, 1.0).log_prob(modes.latents["z"])
    at_mode = at_mode + dist.Normal(modes.latents["z"].square(), 0.2).log_prob(x[:, 0])
    torch.testing.assert_close(modes.log_density[:2], at_mode[:2])


def test_a_low_wide_mode_has_the_larger_share_of_mass(seed):
    """p(z) = 0.75 N(−10, 2²) + 0.25 N(10, 0.5²), and x says nothing of z: shares 3/4 and 1/4, densities 3/8 and 1/2."""

    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Bernoulli(torch.tensor(0.25).double()), infer={"enumerate": "parallel"}).double()
            z = pyro.sample("z", dist.Normal(20 * k - 10, 2 - 1.5 * k))
            pyro.sample("x", dist.Normal(0.0 * z, 1.0), obs=x[:, 0])

    result = sample_posterior(model, guide, torch.zeros(4, 1).double(), seed=seed)
    assert (result.num_modes == 2).all()
    torch.testing.assert_close(
        result.modes.latents["z"], torch.tensor([[10.0], [-10.0]]).double().expand(2, 4), rtol=0, atol=0.1
    )
    torch.testing.assert_close(
        result.modes.mass_share, torch.tensor([[0.25], [0.75]]).double().expand(2, 4), rtol=0, atol=0.01
    )
    assert ((result.means["z"] + 5).abs() < ERRORS * result.means_se["z"]).all()


@pytest.mark.parametrize("prior", [dist.Gamma(2.0, 1.0), dist.LogNormal(0.0, 0.5)], ids=["gamma", "log-normal"])
def test_a_positive_latent_in_its_own_space(prior, seed):
    """x ~ N(z, 0.5²): moments of z against quadrature. The mode is that of p(x, u) with z = exp(u)."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior)
            pyro.sample("x", dist.Normal(z, 0.5), obs=x[:, 0])

    def own_guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", prior)

    x = torch.linspace(0.2, 4, 12).double()[:, None]
    z = torch.linspace(1e-4, 12, 60_001, dtype=torch.float64).unsqueeze(-1)
    log_p = prior.log_prob(z) + dist.Normal(z, 0.5).log_prob(x[:, 0])
    probability = log_p.softmax(0)
    mean = (z * probability).sum(0)
    variance = ((z - mean).square() * probability).sum(0)
    result = sample_posterior(model, own_guide, x, num_draws=4000, seed=seed)
    assert ((result.means["z"] - mean).abs() < ERRORS * result.means_se["z"] + 1e-4).all()
    variance_se = (result.weights * ((result.weighted_draws["z"] - mean).square() - variance)).square().sum(0).sqrt()
    assert ((result.covariances["z"] - variance).abs() < ERRORS * variance_se + 1e-4).all()
    assert (result.draws("z") > 0).all()
    highest = z[(log_p + z.log()).argmax(0), 0]
    torch.testing.assert_close(result.modes.latents["z"][0], highest, rtol=0.02, atol=0.02)


def test_a_class_that_is_summed_out_is_left_out(seed):
    """k ~ Bernoulli(0.3), z ~ N(0, 1), x ~ N(a_k z + b_k, 0.5²): p(z|x) is a mixture of two normals."""
    slopes, offsets = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.0, 1.0]).double()

    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Bernoulli(torch.tensor(0.3).double()), infer={"enumerate": "parallel"}).long()
            z = pyro.sample("z", dist.Normal(torch.tensor(0.0).double(), 1.0))
            pyro.sample("x", dist.Normal(slopes[k] * z + offsets[k], 0.5), obs=x[:, 0])

    x = torch.linspace(-3, 3, 12).double()[:, None]
    marginal = slopes.square() + 0.25
    classes = (dist.Normal(offsets, marginal.sqrt()).log_prob(x) + torch.tensor([0.7, 0.3]).double().log()).softmax(1)
    mean = (classes * slopes * (x - offsets) / marginal).sum(1)
    result = sample_posterior(model, guide, x, num_draws=4000, seed=seed)
    assert list(result.means) == ["z"]
    assert ((result.means["z"] - mean).abs() < ERRORS * result.means_se["z"]).all()


def test_latents_of_an_inner_plate_and_draws_of_two_that_belong_together(seed):
    """a ~ N(0, 1), b_j ~ N(a, 1), x_j ~ N(b_j, 1), j = 1, …, 3: jointly normal, and Cov[a, b_j|x] is not zero."""

    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            a = pyro.sample("a", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            with pyro.plate("part", 3, dim=-2):
                b = pyro.sample("b", dist.Normal(a, 1.0).to_event(1))
                pyro.sample("x", dist.Normal(b, 1.0).to_event(1), obs=x.movedim(1, 0))

    def pair_guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("a", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            with pyro.plate("part", 3, dim=-2):
                pyro.sample("b", dist.Normal(x.new_zeros(2), 1.0).to_event(1))

    x = torch.randn(5, 3, 2).double()
    result = sample_posterior(model, pair_guide, x, num_draws=4000, seed=seed)
    a = x.sum(1) / 5  # x_j | a ~ N(a, 2), and so a | x ~ N(Σ x_j / 5, 2/5)
    b = (x + a.unsqueeze(1)) / 2
    assert ((result.means["a"] - a).abs() < ERRORS * result.means_se["a"]).all()
    assert ((result.means["b"] - b).abs() < ERRORS * result.means_se["b"]).all()
    assert result.covariances["b"].shape == (5, 3, 2, 3, 2)
    assert result.draws("b").shape == (4000, 5, 3, 2)
    product = (result.draws("a") - a).unsqueeze(2) * (result.draws("b") - b)
    assert ((product.mean(0) - 0.2).abs() < ERRORS * product.std(0) / math.sqrt(1000)).all()


def test_resampled_draws_have_the_moments(ppca, seed):
    """Systematic resampling adds at most the variance of as many independent draws."""
    model, exact_guide, x, exact = ppca
    result = sample_posterior(model, exact_guide, x, num_draws=3000, seed=seed)
    draws = result.draws("z")
    assert draws.shape == (3000, 12, 3)
    variance = exact.covariance_matrix.diagonal(dim1=-2, dim2=-1)
    error = (result.means_se["z"].square() + variance / 3000).sqrt()
    assert ((draws.mean(0) - exact.mean).abs() < ERRORS * error).all()
    assert ((draws.var(0) / variance - 1).abs() < ERRORS * math.sqrt(4 / 1000)).all()
    offset = (draws - exact.mean) / variance.sqrt()  # copies of one draw do not stand side by side
    assert ((offset[1:] * offset[:-1]).mean(0).abs() < ERRORS / math.sqrt(3000)).all()


def test_moments_and_effective_draws_by_hand():
    values = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 5.0]]).unsqueeze(1)  # three draws of one point
    weights = torch.tensor([0.5, 0.25, 0.25]).double().unsqueeze(-1)
    mean, error, covariance = weighted_moments(values, weights)
    assert mean.tolist() == [[1.5, 2.0]]
    assert covariance.tolist() == [[[2.75, 2.5], [2.5, 3.0]]]
    torch.testing.assert_close(error, torch.tensor([[(0.5625 + 0.015625 + 0.390625) ** 0.5, 0.875**0.5]]).double())
    scalar = weighted_moments(values[..., 0], weights)
    assert [value.tolist() for value in scalar] == [[1.5], [error[0, 0]], [2.75]]
    infinite = torch.tensor([[1.0], [math.inf]])
    assert weighted_moments(infinite, torch.tensor([[1.0], [0.0]]).double())[0].tolist() == [1.0]


def test_the_effective_sample_size_is_that_of_the_weights(ppca, seed):
    model, exact_guide, x, _ = ppca
    result = sample_posterior(model, exact_guide, x, seed=seed)
    torch.testing.assert_close(result.weights.sum(0), torch.ones(12).double())
    torch.testing.assert_close(result.ess, 1 / result.weights.square().sum(0))
    torch.testing.assert_close(result.largest_weight, result.weights.max(0).values)


def test_systematic_resampling_repeats_each_draw_as_often_as_its_weight_says():
    weights = torch.rand(50, 7).double().pow(6)
    weights[:5] = weights[-5:] = 0.0
    weights /= weights.sum(0)
    rows = systematic_resampling(weights)
    counts = torch.stack([column.bincount(minlength=50) for column in rows.mT], dim=1)
    assert ((counts - 50 * weights).abs() < 1 + 1e-9).all()
    assert (counts[:5] == 0).all()
    assert (counts[-5:] == 0).all()


def test_chunks_of_points_with_different_numbers_of_modes(seed, monkeypatch):
    """Chunks of two points: at a negative x there is one mode."""
    monkeypatch.setattr(batching, "CHUNK_ELEMENTS", {"cpu": 1})
    monkeypatch.setattr(batching, "MIN_CHUNK_ROWS", 250)
    x = torch.tensor([-1.0, -0.5, 1.5, 2.0, -0.7]).double()[:, None]
    z, probability = squared_on_grid(x)
    done = []
    result = sample_posterior(squared, guide, x, seed=seed, on_progress=done.append)
    assert done == [2.0, 2.0, 1.0]
    assert result.num_modes.tolist() == [1, 1, 2, 2, 1]
    assert ((result.means["z"] - (z * probability).sum(0)).abs() < ERRORS * result.means_se["z"]).all()
    assert result.modes.latents["z"].isnan().sum(0).tolist() == (~result.modes.exists).sum(0).tolist()


def test_an_inference_data_that_is_saved_and_read_back(ppca, tmp_path):
    model, exact_guide, x, _ = ppca
    result = sample_posterior(model, exact_guide, x, num_draws=200)
    result.to_arviz().to_netcdf(str(tmp_path / "posterior.nc"))
    found = arviz.from_netcdf(str(tmp_path / "posterior.nc"))
    assert found.posterior["z"].dims == ("chain", "draw", "point", "z_dim_0")
    assert found.posterior["z"].shape == (1, 200, 12, 3)
    assert torch.equal(torch.as_tensor(found.posterior["z"].values[0]), result.draws("z"))
    assert torch.equal(torch.as_tensor(found.sample_stats["ess"].values), result.ess)
    summary = arviz.summary(found, kind="stats", round_to="none")
    torch.testing.assert_close(torch.tensor(list(summary["mean"])).double(), result.draws("z").mean(0).flatten())


def test_what_is_said_and_listed(ppca):
    model, exact_guide, x, _ = ppca
    result = sample_posterior(model, exact_guide, x, num_draws=200)
    assert "PosteriorResult(12 points: z; 200 draws, ESS " in repr(result)
    assert repr(result).endswith("; 1 to 1 modes)")
    assert result.to_dict()["per_point"]["num_modes"] == [1] * 12
    assert result.to_dict()["smallest_ess"] == float(result.ess.min())


def test_the_same_seed_has_the_same_draws_and_torchs_state_is_left(ppca):
    model, exact_guide, x, _ = ppca
    state = torch.get_rng_state()
    one, same, other = (sample_posterior(model, exact_guide, x, 50, seed=seed).draws("z") for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_guide_with_parameters_for_each_point(ppca, seed):
    """Pyro's AutoNormal cannot be asked about some of the points. It is not trained."""
    model, _, x, exact = ppca
    result = sample_posterior(model, AutoNormal(model), x, seed=seed)
    assert ((result.means["z"] - exact.mean).abs() < ERRORS * result.means_se["z"]).all()


@pytest.mark.parametrize("num_draws", [0, 1, 10.0, "many"])
def test_a_number_of_draws_that_is_none(ppca, num_draws):
    model, exact_guide, x, _ = ppca
    with pytest.raises(InvalidInputError, match="num_draws is"):
        sample_posterior(model, exact_guide, x, num_draws)


def test_a_latent_that_there_is_not(ppca):
    model, exact_guide, x, _ = ppca
    with pytest.raises(InvalidInputError, match="no draws of 'zz' .did you mean 'z'..: give one of z"):
        sample_posterior(model, exact_guide, x, 10).draws("zz")


def test_pairs_without_such_a_posterior_are_refused():
    model, classes = load("gmm")(5, components=3)
    with pytest.raises(InvalidInputError, match="is discrete"):
        sample_posterior(model, classes, torch.randn(10, 5))

    def angle(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.VonMises(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    def angle_guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.VonMises(torch.zeros(len(x)), 1.0))

    with pytest.raises(InvalidInputError, match="'z' is an angle"):
        sample_posterior(angle, angle_guide, torch.randn(4, 1))


def test_points_that_are_no_numbers(ppca):
    model, exact_guide, x, _ = ppca
    with pytest.raises(InvalidInputError, match="x.0, 0. is -?inf"):
        sample_posterior(model, exact_guide, x * torch.inf)


def test_the_posterior_given_some_entries(ppca):
    """That of the rows of W that are observed; and the prior, where none is."""
    model, exact_guide, x, _ = ppca
    x = x[:6].clone()
    x[:3, ::2] = torch.nan
    x[3:] = torch.nan
    result, latent = sample_posterior(model, exact_guide, x, num_draws=4000), model.W.shape[1]
    exact = model.posterior(x)
    expected = exact.mean.detach().double(), exact.covariance_matrix.detach().double()
    assert bool(((result.means["z"] - expected[0]).abs() < 6 * result.means_se["z"] + 1e-6).all())
    torch.testing.assert_close(result.covariances["z"], expected[1], rtol=0, atol=0.15)
    torch.testing.assert_close(expected[1][3:], torch.eye(latent).double().expand(3, -1, -1), rtol=0, atol=1e-6)


def test_a_density_that_is_zero_everywhere_names_the_point():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.tensor(0.0).double(), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])
            pyro.factor("ruled out", torch.where(x[:, 0] > 0, -math.inf, 0.0))

    with pytest.raises(pyrovae.NonFiniteError, match="data point 1"):
        sample_posterior(model, guide, torch.tensor([[0.0], [1.0], [0.0]]).double())
