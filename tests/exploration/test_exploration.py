"""The arrays behind pictures, against closed forms: PPCA, mixtures, a decoder that is a circle."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.metrics import r2_score

import pyrovae
from pyrovae import InvalidInputError, exploration

SIGMAS = 5


@pytest.fixture
def ppca(seed):
    """PPCA in R^5 with two latents of different importance, in double precision, its exact guide, and points that it draws."""
    torch.manual_seed(seed)
    model, guide = pyrovae.load("ppca")(5, latent=2)
    with torch.no_grad():
        model.W.copy_(torch.linalg.qr(torch.randn(5, 2))[0] * torch.tensor([0.5, 2.0]))
        model.log_sigma.fill_(math.log(0.3))
    model = model.double()
    return model, guide, pyrovae.sample(model, 40, torch.zeros(40, 5).double())


@pytest.fixture
def mixture(seed):
    """A mixture of three Gaussians in the plane, its exact guide, and points that it draws."""
    torch.manual_seed(seed)
    model, guide = pyrovae.load("gmm")(2, components=3)
    with torch.no_grad():
        model.components.centre.copy_(torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]]))
        model.logits.copy_(torch.tensor([0.2, 0.5, 0.3]).log())
    return model, guide, pyrovae.sample(model, 30, torch.zeros(30, 2))


def circle(noise=0.1):
    """z ~ N(0, I) in the plane, x|z on the unit circle at the angle a = z_1 + 0.3 sin z_1, with noise: z_2 is idle."""

    def decode(z):
        angle = z[..., 0] + 0.3 * z[..., 0].sin()  # a metric that is not constant
        return torch.stack([angle.cos(), angle.sin()], dim=-1)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decode(z), noise).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 0.1).to_event(1))

    return model, guide, decode


def near(value, expected, tolerance=1e-8):
    torch.testing.assert_close(value, expected.to(value).expand_as(value), rtol=0, atol=tolerance)


# The latent space


def test_encoding_and_decoding_are_the_models_own(ppca):
    model, guide, x = ppca
    space = exploration.LatentSpace(model, guide, x)
    assert space.names == ("z[0]", "z[1]")
    near(space.encode(x), model.encode(x).detach())
    z = torch.randn(7, 2).double()
    near(space.decode(z), model.decode(z).detach())


def test_draws_have_the_posteriors_mean_and_covariance(ppca, seed):
    model, guide, x = ppca
    draws = exploration.LatentSpace(model, guide, x).draw(x, 4000, seed)
    posterior = model.posterior(x)
    covariance = posterior.covariance_matrix[0].detach()
    error = covariance.diagonal().sqrt() / math.sqrt(4000)
    assert bool(((draws.mean(0) - posterior.mean.detach()).abs() < SIGMAS * error).all())
    centred = draws - draws.mean(0)
    found = torch.einsum("snd,sne->de", centred, centred) / (len(draws) - 1) / len(x)
    bound = SIGMAS * covariance.diagonal().max() * math.sqrt(2 / draws[..., 0].numel())
    assert float((found - covariance).abs().max()) < float(bound)


def test_the_order_is_that_of_the_kl(ppca):
    model, guide, x = ppca
    space = exploration.LatentSpace(model, guide, x)
    posterior = model.posterior(x)
    q = torch.distributions.Normal(posterior.mean, posterior.variance.sqrt())
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).mean(0)
    near(space.kl(), expected.detach())
    assert space.order(x) == [1, 0]  # W's second column is the longer one


def test_the_order_of_a_pair_without_kl_is_how_far_x_moves():
    x = torch.randn(200, 4) * torch.tensor([1.0, 5.0, 0.2, 2.0])
    model, guide = pyrovae.load("pca")(4, latent=3)
    pyrovae.fit(model, guide, x, epochs=0)
    assert exploration.LatentSpace(model, guide, x).order(x) == [
        0,
        1,
        2,
    ]  # white codes: their own variances say nothing


def test_quantiles_are_the_priors(ppca):
    model, guide, x = ppca
    p = torch.tensor([0.1, 0.5, 0.975])
    values, source = exploration.LatentSpace(model, guide, x).quantiles(p)
    near(values, torch.distributions.Normal(0.0, 1.0).icdf(p).double()[:, None].expand(3, 2), 1e-6)
    assert source == "the prior's quantiles"


def test_quantiles_of_a_mixture_prior_are_those_of_its_draws():
    model, guide = pyrovae.load("vae")(3, latent=2, hidden=(4,), prior=pyrovae.priors.MixtureOfGaussians(2))
    with torch.no_grad():
        model.prior.loc.copy_(torch.tensor([[-3.0, 0.0], [3.0, 0.0]]))
    values, source = exploration.LatentSpace(model, guide, torch.randn(10, 3)).quantiles(torch.tensor([0.25, 0.75]))
    assert values[0, 0] == pytest.approx(-3, abs=0.1)  # half of each component's mass is below its mean
    assert values[1, 0] == pytest.approx(3, abs=0.1)
    assert "draws of the prior" in source


def test_an_autoencoder_has_quantiles_of_encodings():
    model, guide = pyrovae.load("autoencoder")(4, latent=2, hidden=())
    x = torch.randn(50, 4)
    values, source = exploration.LatentSpace(model, guide, x).quantiles(torch.tensor([0.5]))
    near(values[0], guide.encode(x).detach().quantile(0.5, dim=0), 1e-5)
    assert "no prior" in source


def test_latents_that_do_not_reach_x_are_left_out():
    model, guide = pyrovae.load("hierarchical_vae")(6, latents=(3, 2), hidden=(8,))
    space = exploration.LatentSpace(model, guide, torch.rand(10, 6))
    assert {name[:2] for name in space.names} == {"z1"}


def test_pairs_without_a_latent_space_say_so(mixture):
    model, guide, x = mixture
    with pytest.raises(InvalidInputError, match="Latent 'z' is discrete"):
        exploration.manifold(model, guide, x)
    model, guide = pyrovae.load("gaussian")(2)
    with pytest.raises(InvalidInputError, match="draws no latent"):
        exploration.encode(model, guide, x)
    with pytest.raises(InvalidInputError, match="nothing between x and its reconstruction"):
        exploration.reconstruct(model, guide, x)


# Reconstructions


def test_reconstruction_and_its_numbers(ppca):
    model, guide, x = ppca
    result = exploration.reconstruct(model, guide, x)
    expected = model.decode(model.encode(x)).detach()
    near(result.reconstructed, expected)
    near(result.squared_error, (x - expected).square().mean(1))
    assert result.mean_squared_error == pytest.approx(float((x - expected).square().mean()), rel=1e-12)
    score = r2_score(x.numpy(), expected.numpy(), multioutput="variance_weighted")
    assert result.explained_variance == pytest.approx(score, rel=1e-10)


def test_pca_loses_the_eigenvalues_that_it_leaves_out():
    x = torch.randn(300, 6, dtype=torch.float64).cumsum(1)
    model, guide = pyrovae.load("pca")(6, latent=2)
    model = model.double()
    pyrovae.fit(model, guide, x, epochs=0)
    values = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
    result = exploration.reconstruct(model, guide, x)
    assert result.mean_squared_error == pytest.approx(float(values[2:].sum()) / 6, rel=1e-8)
    assert result.explained_variance == pytest.approx(float(values[:2].sum() / values.sum()), rel=1e-8)


def test_a_mixture_reconstructs_by_its_responsibilities(mixture, seed):
    model, guide, _ = mixture
    x = torch.tensor([[3.0, 0.1], [0.0, 6.0]])
    result = exploration.reconstruct(model, guide, x, seed)
    r = model.posterior(x).probs.detach()
    means = model.components.family().mean.detach()
    expected = r @ means
    spread = (r @ means.square() - expected.square()).clamp(min=0).sqrt()
    assert bool(((result.reconstructed - expected).abs() <= SIGMAS * spread / 10 + 1e-5).all())  # 100 draws
    assert result.from_draws


# Grids


def test_a_manifold_is_the_decoder_on_the_priors_quantiles(ppca):
    model, guide, x = ppca
    result = exploration.manifold(model, guide, x, size=5)
    assert result.names == ("z[1]", "z[0]")
    z = torch.zeros(5, 5, 2).double()
    z[..., 1], z[..., 0] = result.across, result.up[:, None]
    near(result.decoded, model.decode(z).detach(), 1e-6)
    assert bool((result.up.diff() < 0).all())
    uniform = torch.distributions.Normal(0.0, 1.0).cdf(result.across).diff()
    near(uniform, uniform[0].expand(4), 1e-6)  # equal steps of probability


def test_a_traversal_moves_one_latent(ppca):
    model, guide, x = ppca
    result = exploration.traverse(model, guide, x, start=3, latents=2, steps=4)
    z = model.encode(x[3:4]).detach().repeat(2, 4, 1)
    z[0, :, 1], z[1, :, 0] = result.values[0], result.values[1]
    near(result.decoded, model.decode(z).detach(), 1e-6)
    assert result.names == ("z[1]", "z[0]")
    assert result.kl[0] > result.kl[1]
    with pytest.raises(InvalidInputError, match="There is no point 40: give a number from 0 to 39"):
        exploration.traverse(model, guide, x, start=40)


def test_a_latent_that_x_ignores_changes_nothing():
    model, guide, _ = circle()
    result = exploration.traverse(model, guide, torch.randn(9, 2), start=0)
    near(result.decoded[list(result.names).index("z[1]")].diff(dim=0), torch.zeros(()), 1e-6)


# Paths


def test_a_linear_decoder_makes_the_straight_line_the_shortest(ppca):
    model, guide, x = ppca
    result = exploration.interpolate(model, guide, x, 0, 1, steps=6)
    ends = model.encode(x[:2]).detach()
    near(result.straight[[0, -1]], ends)
    near(result.straight, result.shortest, 1e-6)
    expected = float((model.decode(ends[0]) - model.decode(ends[1])).norm().detach())
    assert result.lengths == pytest.approx((expected, expected), rel=1e-8)


def test_the_shortest_path_has_steps_of_one_length_under_the_decoder():
    """On a circle with angle a(z) = z + 0.3 sin z equal steps are equal angles, and z follows by inverting a."""
    model, guide, decode = circle()
    x = torch.tensor([[-1.2, 0.4], [1.0, 0.4]])
    result = exploration.interpolate(model, guide, x, 0, 1, steps=9)
    angle = result.shortest[:, 0] + 0.3 * result.shortest[:, 0].sin()
    near(angle, torch.linspace(float(angle[0]), float(angle[-1]), 9), 2e-3)
    straight = result.straight[:, 0] + 0.3 * result.straight[:, 0].sin()
    assert float((straight.diff() - straight.diff().mean()).abs().max()) > 0.02  # as the straight line has not
    near(result.decoded_shortest, decode(result.shortest), 1e-5)


def test_paths_need_two_points_that_exist(ppca):
    with pytest.raises(InvalidInputError, match="to itself is no path"):
        exploration.interpolate(*ppca, 2, 2)
    with pytest.raises(InvalidInputError, match="There is no point -1"):
        exploration.interpolate(*ppca, -1, 2)


def test_an_analogy_adds_differences(ppca):
    model, guide, x = ppca
    result = exploration.analogy(model, guide, x, 4, 7, 9)
    z = model.encode(x[[4, 7, 9]]).detach()
    near(result.decoded[3], model.decode(z[2] + z[1] - z[0]).detach())
    near(result.x, x[[4, 7, 9]])


# The plane of two latents


def test_encodings_and_the_priors_density(ppca):
    model, guide, x = ppca
    result = exploration.encode(model, guide, x)
    near(result.means, model.encode(x).detach()[:, [1, 0]])
    assert result.latents == (1, 0)
    grid = torch.stack(torch.meshgrid(result.prior.across, result.prior.up, indexing="xy"), -1)
    near(result.prior.log_density, torch.distributions.Normal(0.0, 1.0).log_prob(grid).sum(-1), 1e-6)
    radius = -0.5 * (-2 * math.log(0.5)) - math.log(2 * math.pi)  # log N at the radius with half of the mass inside
    assert result.prior.level(0.5) == pytest.approx(radius, abs=0.02)
    assert not result.deterministic


def test_ellipses_are_the_posteriors_covariances(ppca, seed):
    model, guide, x = ppca
    result = exploration.ellipses(model, guide, x, [0, 5], (1, 0), seed)
    expected = model.posterior(x).covariance_matrix[0].detach()[[1, 0]][:, [1, 0]]
    scale = expected.diagonal().max()
    near(result.posterior_mean, model.encode(x)[[0, 5]][:, [1, 0]].detach(), float(SIGMAS * (scale / 500).sqrt()))
    for found in (result.guide_covariance, result.posterior_covariance):
        near(found, expected.expand(2, 2, 2), float(SIGMAS * scale * math.sqrt(2 / 500)))


# Components


def test_the_components_of_a_mixture(mixture):
    model, guide, x = mixture
    result = exploration.take_apart(model, guide, x)
    assert result.kind == "mixture"
    assert result.names == ("z = 1", "z = 2", "z = 0")
    near(result.means, torch.tensor([[6.0, 0.0], [0.0, 6.0], [0.0, 0.0]]), 1e-5)
    near(result.weights, torch.tensor([0.5, 0.3, 0.2]), 1e-6)
    near(result.spreads, model.components.family().variance.sqrt().detach()[[1, 2, 0]])
    near(result.responsibilities, model.posterior(x).probs.detach()[:, [1, 2, 0]], 1e-6)


def test_the_directions_of_a_linear_model(ppca):
    model, guide, x = ppca
    result = exploration.take_apart(model, guide, x)
    assert result.kind == "directions"
    near(result.means, model.W.detach().T[[1, 0]], 1e-6)
    near(result.weights, torch.tensor([4.0, 0.25]) / 4.25, 1e-6)
    near(result.centre, model.mu.detach())


def test_a_curved_decoder_has_no_directions():
    model, guide, _ = circle()
    with pytest.raises(InvalidInputError, match="not linear"):
        exploration.take_apart(model, guide, torch.randn(9, 2))


# One point


def test_the_grid_of_one_points_posterior_is_the_closed_form(ppca):
    model, guide, x = ppca
    result = exploration.posterior_of_point(model, guide, x, 7)
    grid = torch.stack(torch.meshgrid(*result.axes, indexing="xy"), -1)
    expected = model.posterior(x[7:8]).log_prob(grid[:, :, None]).squeeze(-1).detach()
    near(result.log_posterior, expected, 1e-4)
    near(result.log_guide, expected, 1e-4)
    assert result.log_evidence == pytest.approx(float(model.log_prob(x)[7].detach()), abs=1e-4)
    assert result.kl == pytest.approx(0.0, abs=1e-6)


def test_the_kl_of_one_point_is_its_gap(ppca):
    """A guide that is off by a known amount: KL between two Gaussians."""
    model, _, x = ppca
    precision = model.posterior(x).precision_matrix[0].detach()
    width = 1.5 * precision.diagonal().rsqrt()

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(model.posterior(x).mean.detach() + 0.3 * width, width).to_event(1))

    q = torch.distributions.MultivariateNormal(model.posterior(x).mean[2].detach() + 0.3 * width, torch.diag(width**2))
    p = torch.distributions.MultivariateNormal(model.posterior(x).mean[2].detach(), precision_matrix=precision)
    result = exploration.posterior_of_point(model, guide, x, 2)
    assert result.kl == pytest.approx(float(torch.distributions.kl_divergence(q, p)), rel=1e-3)


def test_more_latents_are_drawn(seed):
    torch.manual_seed(seed)
    model, guide = pyrovae.load("ppca")(8, latent=4)
    x = pyrovae.sample(model, 5, torch.zeros(5, 8))
    result = exploration.posterior_of_point(model, guide, x, 1, seed)
    chosen = [int(name[2]) for name in result.names]
    mean, variance = (value[1, chosen].detach() for value in (model.posterior(x).mean, model.posterior(x).variance))
    for draws, count in ((result.posterior, result.ess), (result.guide, len(result.guide))):
        assert bool(((draws.mean(0) - mean).abs() < SIGMAS * (variance / count).sqrt()).all())
    assert result.size == 4


def test_a_guide_that_is_a_point_has_no_posterior():
    model, guide = pyrovae.load("flow")(3)
    with pytest.raises(InvalidInputError, match="The guide is a point"):
        exploration.posterior_of_point(model, guide, torch.randn(4, 3), 0)


# New x


def test_generated_draws_scatter_about_their_means(ppca, seed):
    model, _, x = ppca
    result = exploration.generate(model, x, 500, seed)
    assert result.noise == pytest.approx(0.3, abs=SIGMAS * 0.3 / math.sqrt(2 * 2500))
    near((result.draws - result.means).square().mean().sqrt(), torch.tensor(result.noise, dtype=torch.float64), 1e-12)
