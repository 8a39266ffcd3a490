"""Collapse and mismatch against quadrature, closed forms and brute force. Monte-Carlo tests allow 5 standard errors: a false
alarm in 2e6 comparisons."""

import math

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal

import pyrovae
from pyrovae import InvalidInputError, diagnose, load
from pyrovae.diagnostics import active_units as units
from pyrovae.diagnostics import aggregate_posterior as aggregate
from pyrovae.diagnostics import prior_holes as holes
from pyrovae.diagnostics.aggregate_posterior import Aggregate
from pyrovae.distributions.normal import PrecisionNormal
from pyrovae.pair.latent_rows import decode
from pyrovae.pair.structure import inspect_pair
from pyrovae.posterior import latent_densities

SIGMAS = 5


def normal_model(x):
    """z ~ N(0, I) of as many numbers as x, x|z ~ N(z, I)."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(x.shape[1]).to(x), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def normal_guide(scale):
    """q(z|x) = N(x, scale²): encodings are where the test puts them."""

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, scale).to_event(1))

    return guide


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def quadrature(densities, prior, step):
    """I(n; z), KL(q(z) ‖ p(z)) and the mean KL of densities (N, grid) on a grid whose cells have measure `step`."""
    q = densities.mean(0)
    log_ratio = (densities / q).log().nan_to_num(0.0, 0.0, 0.0)
    information = (densities * log_ratio).sum(-1).mean() * step
    marginal = torch.special.xlogy(q, q / prior).sum() * step
    return information.item(), marginal.item(), (information + marginal).item()


def near(estimate, truth):
    assert abs(estimate.value - truth) < SIGMAS * estimate.mc_se + 1e-9, (estimate, truth)


# I(n; z) and KL(q(z) ‖ p(z))

POINTS = column(-2.0, -1.6, 0.0, 0.3, 2.5)
GRID = torch.linspace(-8, 8, 40_001, dtype=torch.float64)


def test_information_and_marginal_kl_against_quadrature(seed):
    densities = dist.Normal(POINTS, 0.5).log_prob(GRID).exp()
    information, marginal, kl = quadrature(densities, dist.Normal(0.0, 1.0).log_prob(GRID).exp(), 16 / 40_000)
    found = diagnose(normal_model, normal_guide(0.5), POINTS, num_samples=2000, seed=seed)
    assert 0.5 < information < math.log(5) - 0.1  # neither end, where there is nothing to get wrong
    near(found.mutual_information, information)
    near(found.marginal_kl, marginal)
    assert found.mean_kl.value == pytest.approx(kl, abs=1e-9)
    assert found.mutual_information.mc_se < 0.02


def test_errors_cover_at_their_nominal_rate(monkeypatch, seed):
    monkeypatch.setattr(holes, "NUM_BOOTSTRAPS", 2)
    densities = dist.Normal(POINTS, 0.5).log_prob(GRID).exp()
    information, marginal, _ = quadrature(densities, dist.Normal(0.0, 1.0).log_prob(GRID).exp(), 16 / 40_000)
    scores = []
    for number in range(100):
        found = diagnose(normal_model, normal_guide(0.5), POINTS, 40, 1000 * seed + number, prior_samples=2)
        for estimate, truth in ((found.mutual_information, information), (found.marginal_kl, marginal)):
            scores.append((estimate.value - truth) / estimate.mc_se)
    variance = torch.tensor(scores).reshape(-1, 2).square().mean(0)
    assert (variance - 1).abs().max() < SIGMAS * math.sqrt(2 / 100)
    assert torch.tensor(scores).reshape(-1, 2).mean(0).abs().max() < SIGMAS / math.sqrt(100)


def test_mean_kl_is_the_sum_of_its_parts(seed):
    """KL(q(z) ‖ p(z)) by draws of the mixture itself, with torch's own mixture density."""
    torch.manual_seed(seed)
    x, scale = torch.randn(40, 2).double(), torch.tensor([0.3, 0.8]).double()
    found = diagnose(normal_model, normal_guide(scale), x, num_samples=200, seed=seed)
    components = torch.distributions.Independent(torch.distributions.Normal(x, scale), 1)
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(40).double()), components
    )
    z = mixture.sample((50_000,))
    ratio = mixture.log_prob(z) - dist.Normal(0.0, 1.0).log_prob(z).sum(-1)
    error = math.hypot(ratio.std().item() / math.sqrt(50_000), found.marginal_kl.mc_se)
    assert abs(ratio.mean().item() - found.marginal_kl.value) < SIGMAS * error
    assert found.mean_kl.value == pytest.approx(found.mutual_information.value + found.marginal_kl.value, abs=1e-12)


def test_information_is_log_n_where_posteriors_are_far_apart_and_a_minibatch_cannot_see_it():
    x = torch.arange(300).double()[:, None]
    found = diagnose(normal_model, normal_guide(0.01), x, num_samples=2)
    assert found.mutual_information.value == pytest.approx(math.log(300), abs=1e-10)
    assert found.cap == math.log(300)
    batch = diagnose(normal_model, normal_guide(0.01), x[:20], num_samples=2).mutual_information.value
    assert batch == pytest.approx(math.log(20), abs=1e-10)  # what a minibatch of 20 makes of it


def test_the_bias_of_minibatches_is_not_reproduced(seed):
    """Where posteriors overlap: quadrature of all 60 components is met, the mean over minibatches of 6 is nats away."""
    x = torch.linspace(-2.5, 2.5, 60).double()[:, None]
    densities = dist.Normal(x, 0.05).log_prob(GRID).exp()
    information, *_ = quadrature(densities, dist.Normal(0.0, 1.0).log_prob(GRID).exp(), 16 / 40_000)
    near(diagnose(normal_model, normal_guide(0.05), x, num_samples=200, seed=seed).mutual_information, information)
    parts = x[torch.randperm(60)].split(6)
    batches = [diagnose(normal_model, normal_guide(0.05), part, 50, seed).mutual_information.value for part in parts]
    assert np.mean(batches) < math.log(6) < information - 0.5


@pytest.fixture
def gaussian_data(seed):
    """x ~ N(0, C), q(z|x) = N(Ax, S): the aggregate posterior of all x is N(0, ACAᵀ + S)."""
    torch.manual_seed(seed)
    root = torch.randn(3, 3).double()
    A, scale = 0.4 * torch.randn(2, 3).double(), torch.tensor([0.7, 0.5]).double()
    x = torch.randn(1500, 3).double() @ root.mT
    covariance = A @ root @ root.mT @ A.mT + torch.diag(scale**2)

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(2).to(x), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.zeros(3).to(x), 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x @ A.mT, scale).to_event(1))

    return model, guide, x, covariance, scale


def test_bounds_for_all_x_bracket_the_closed_form(gaussian_data, seed):
    model, guide, x, covariance, scale = gaussian_data
    found = diagnose(model, guide, x, num_samples=4, seed=seed)
    information = 0.5 * (torch.logdet(covariance) - 2 * scale.log().sum()).item()
    marginal = 0.5 * (covariance.trace() - 2 - torch.logdet(covariance)).item()
    for low, high, truth, error in (
        (*found.information_range, information, found.mutual_information),
        (*found.marginal_kl_range, marginal, found.marginal_kl),
    ):
        slack = SIGMAS * math.hypot(error.mc_se, error.data_se)
        assert low - slack < truth < high + slack
        assert high - low < 0.3
    near_in_data = found.mutual_information_upper
    assert near_in_data.value > found.mutual_information.value


def test_the_bound_that_leaves_one_out_is_the_kl_to_the_other_of_two_points(seed):
    """N = 2: KL(N(a, s²) ‖ N(b, s²)) = (a − b)²/2s²."""
    found = diagnose(normal_model, normal_guide(0.5), column(0.0, 0.8), num_samples=3000, seed=seed)
    near(found.mutual_information_upper, 0.8**2 / (2 * 0.5**2))


@pytest.mark.slow
def test_data_errors_cover_what_other_points_would_change(monkeypatch, seed):
    """x ~ N(0, 1), q(z|x) = N(x/2, 3/4): I(x; z) = ½ ln 4/3, and q(z) of all x is the prior."""
    monkeypatch.setattr(holes, "NUM_BOOTSTRAPS", 2)
    torch.manual_seed(seed)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, math.sqrt(0.75)).to_event(1))

    scores = []
    for number in range(100):
        x = torch.randn(200, 1).double()
        value, mc_se, data_se = diagnose(normal_model, guide, x, 8, number, prior_samples=2).mutual_information
        scores.append((value - 0.5 * math.log(4 / 3)) / math.hypot(mc_se, data_se))
    # its variance is 1 but for the bias of 200 points, about a tenth of an error
    assert abs(np.mean(np.square(scores)) - 1) < SIGMAS * math.sqrt(2 / 100) + 0.05


def test_blocks_do_not_change_the_sum(monkeypatch, seed):
    torch.manual_seed(seed)
    x, z = torch.randn(30, 2).double(), torch.randn(17, 2).double()
    guide = normal_guide(torch.tensor([0.3, 0.8]).double())
    expected = dist.Normal(x, torch.tensor([0.3, 0.8]).double()).log_prob(z[:, None]).sum(-1)  # (17, 30)
    owners = torch.randint(30, (17, 2))
    without = expected.scatter(1, owners, -math.inf)
    for numbers, components in ((2**20, 256), (7, 4), (1, 1)):
        monkeypatch.setattr(aggregate, "BLOCK_ELEMENTS", numbers)
        monkeypatch.setattr(aggregate, "BLOCK_COMPONENTS", components)
        every = Aggregate(guide, x, inspect_pair(normal_model, guide, x), whole=False)
        torch.testing.assert_close(every.log_sum({"z": z}), expected.logsumexp(1), rtol=0, atol=1e-10)
        torch.testing.assert_close(every.log_sum({"z": z}, owners), without.logsumexp(1), rtol=0, atol=1e-10)


@pytest.mark.slow
def test_memory_is_that_of_a_block(monkeypatch):
    """No density is ever asked for more numbers than are allowed at once."""
    monkeypatch.setattr(aggregate, "BLOCK_ELEMENTS", 4096)
    seen = []
    plain = dist.Normal.log_prob

    def counted(self, value):
        seen.append(torch.broadcast_shapes(self.batch_shape, value.shape))
        return plain(self, value)

    monkeypatch.setattr(dist.Normal, "log_prob", counted)
    x = torch.randn(600, 2).double()
    diagnose(normal_model, normal_guide(0.5), x, num_samples=20, prior_samples=500)
    assert max(torch.Size(shape).numel() for shape in seen) <= 4096
    assert sum(torch.Size(shape).numel() for shape in seen) > 600 * 600 * 20 * 2


# Activity and KL per latent


@pytest.fixture
def collapsing(seed):
    """PPCA at its maximum for a fixed σ² = 1: covariance eigenvalues 4, 2, 0.5, 0.2, three latents."""
    torch.manual_seed(seed)
    x = torch.randn(200, 4).double()
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(x.mT @ x / 200).mT)  # covariance I, exactly
    basis = torch.linalg.qr(torch.randn(4, 4).double())[0]
    eigenvalues = torch.tensor([4.0, 2.0, 0.5, 0.2]).double()
    return (x * eigenvalues.sqrt()) @ basis.mT, basis, eigenvalues


def test_latents_collapse_where_the_noise_is_larger_than_their_eigenvalue(collapsing, seed):
    """A_j = (λ_j − σ²)/λ_j and KL_j = ½ ln λ_j/σ² where λ_j > σ², else both 0 (Tipping & Bishop 1999, eq. 3.8)."""
    x, basis, eigenvalues = collapsing
    model, guide = load("ppca")(4, latent=3)
    model.double()
    with torch.no_grad():
        model.W.copy_(basis[:, :3] * (eigenvalues[:3] - 1).clamp(min=0).sqrt())
        model.log_sigma.zero_()
    found = diagnose(model, guide, x, num_samples=2, seed=seed)
    share = 1 - 1 / eigenvalues[:3].clamp(min=1)
    torch.testing.assert_close(found.activity, share * 200 / 199, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.unit_kl, 0.5 * eigenvalues[:3].clamp(min=1).log(), rtol=0, atol=1e-10)
    assert found.mean_kl.value == pytest.approx(0.5 * math.log(8), abs=1e-10)
    assert found.active_units() == 2
    assert found.names == ("z[0]", "z[1]", "z[2]")
    assert "2 of 3 latents are in use" in found.reliability_message
    assert "the other 1 could be left out" in found.reliability_message
    _, active = found.activity_curve(torch.tensor([0.0, 0.49, 0.52, 0.76]).double() + 1e-9)
    assert active.tolist() == [2, 2, 1, 0]


class LinearVAE(pyrovae.Module):
    def __init__(self):
        super().__init__()
        self.decoder = torch.nn.Linear(3, 4, bias=False)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)


@pytest.mark.slow
def test_a_trained_linear_vae_collapses_to_the_same_latents(collapsing, seed):
    """Trained until its activities are within 0.1 of those at the optimum, in some order (Lucas et al. 2019)."""
    x, _, eigenvalues = collapsing
    torch.manual_seed(seed)
    model, guide = LinearVAE().double(), pyrovae.guides.MeanField(4, 3, hidden=()).double()
    pyrovae.fit(model, guide, x, epochs=1500, batch_size=None, lr=2e-2, seed=seed)
    found = diagnose(model, guide, x, num_samples=2, seed=seed)
    expected = 1 - 1 / eigenvalues[:3].clamp(min=1)
    assert (found.activity.sort(descending=True).values - expected).abs().max() < 0.1
    assert found.active_units() == 2
    idle = found.activity.argmin()
    assert found.unit_kl[idle] < 0.01


def test_activity_without_a_known_mean_has_the_noise_of_its_draws_taken_off(seed):
    """E[z|x] from S draws of variance v adds v/S to the variance over x, in expectation."""
    torch.manual_seed(seed)
    means = torch.randn(2000, 1).double() * torch.tensor([0.0, 0.5]).double()
    drawn = means + 2 * torch.randn(4, 2000, 2).double()
    activity, se = units.activity(drawn)
    truth = means.var(0)
    assert ((activity - truth).abs() < SIGMAS * se).all()
    assert (drawn.mean(0).var(0) - truth > 0.5).all()  # what is taken off
    known, _ = units.activity(means.expand(3, 2000, 2))
    torch.testing.assert_close(known, truth, rtol=0, atol=1e-12)


def test_kl_per_latent_and_per_site(seed):
    """Full covariance: the marginals' KL and the total correlation add up to torch's KL of the whole."""
    torch.manual_seed(seed)
    loc, root = torch.randn(6, 3).double(), torch.randn(3, 3).double()
    q = dist.MultivariateNormal(loc, covariance_matrix=root @ root.mT + torch.eye(3))
    p = dist.Normal(torch.zeros(3).double(), 1.0).to_event(1)
    whole = torch.distributions.kl_divergence(
        q, torch.distributions.MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    )
    torch.testing.assert_close(latent_densities.site_kl(q, p), whole, rtol=0, atol=1e-10)
    marginals = dist.Normal(loc, q.variance.sqrt())
    expected = torch.distributions.kl_divergence(marginals, dist.Normal(torch.zeros(3).double(), 1.0))
    torch.testing.assert_close(latent_densities.unit_kl(q, p), expected, rtol=0, atol=1e-10)
    low_rank = dist.LowRankMultivariateNormal(loc, root, torch.ones(3).double())
    torch.testing.assert_close(latent_densities.site_kl(low_rank, p), whole, rtol=0, atol=1e-10)
    precise = PrecisionNormal(loc, torch.linalg.cholesky(q.precision_matrix))
    torch.testing.assert_close(latent_densities.site_kl(precise, p), whole, rtol=0, atol=1e-10)
    assert (
        latent_densities.site_kl(dist.Laplace(loc, 1.0).to_event(1), dist.StudentT(3.0, loc, 1.0).to_event(1)) is None
    )
    assert latent_densities.site_kl(dist.Delta(loc, event_dim=1), p) is None


# Pairs of every kind

WEIGHTS = torch.tensor([0.3, 0.7]).double()


def two_latents(swapped):
    """a ~ N(0, 1), b|a ~ N(a/2, 1); the guide draws them in the model's order, or b first."""

    def model(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(x.new_zeros(()), 1.0))
            b = pyro.sample("b", dist.Normal(a / 2, 1.0))
            pyro.sample("x", dist.Normal(torch.stack([a, b], -1), 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            first, second = ("b", "a") if swapped else ("a", "b")
            z = pyro.sample(first, dist.Normal(x[:, 0], 0.6))
            pyro.sample(second, dist.Normal(x[:, 1] + z / 3, 0.8))

    return model, guide


@pytest.mark.parametrize("swapped", [False, True])
def test_two_latents_against_quadrature(swapped, seed):
    x = torch.tensor([[-1.0, 0.5], [0.0, 0.0], [1.2, -0.7]]).double()
    axis = torch.linspace(-7, 7, 281, dtype=torch.float64)
    first, second = torch.meshgrid(axis, axis, indexing="ij")
    densities = torch.stack(
        [
            (dist.Normal(row[0], 0.6).log_prob(first) + dist.Normal(row[1] + first / 3, 0.8).log_prob(second)).exp()
            for row in x
        ]
    )
    a, b = (second, first) if swapped else (first, second)
    prior = (dist.Normal(0.0, 1.0).log_prob(a) + dist.Normal(a / 2, 1.0).log_prob(b)).exp()
    information, marginal, kl = quadrature(densities.flatten(1), prior.flatten(), 0.05**2)
    model, guide = two_latents(swapped)
    found = diagnose(model, guide, x, num_samples=3000, seed=seed)
    near(found.mutual_information, information)
    near(found.marginal_kl, marginal)
    near(found.mean_kl, kl)
    assert sum(part.value for part in found.site_kl.values()) == pytest.approx(found.mean_kl.value, abs=1e-10)
    conditional = {"a": (dist.Normal(0.0, 1.0), a), "b": (dist.Normal(a / 2, 1.0), b)}
    name = "b" if swapped else "a"  # the first that is drawn: q(first|x) against the model's density of it
    fn, place = conditional[name]
    log_q = torch.stack([dist.Normal(row[0], 0.6).log_prob(first) for row in x])
    truth = (densities * (log_q - fn.log_prob(place))).sum((-2, -1)).mean().item() * 0.05**2
    near(found.site_kl[name], truth)
    spread = torch.stack([x[:, 0], x[:, 1] + x[:, 0] / 3], -1).var(0)
    expected = spread.flip(0) if swapped else spread
    assert found.names == ("a", "b")
    assert ((found.activity - expected).abs() < 0.1).all()


def test_a_latent_that_is_summed_out_leaves_the_mixture_as_prior(seed):
    """c ∈ {0, 1} enumerated, z|c ~ N(±2, 1): p(z) is the mixture, by quadrature."""

    def model(x):
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(WEIGHTS), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(4.0 * c.double().unsqueeze(-1) - 2, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    densities = dist.Normal(POINTS, 0.5).log_prob(GRID).exp()
    prior = 0.3 * dist.Normal(-2.0, 1.0).log_prob(GRID).exp() + 0.7 * dist.Normal(2.0, 1.0).log_prob(GRID).exp()
    _, marginal, kl = quadrature(densities, prior, 16 / 40_000)
    found = diagnose(model, normal_guide(0.5), POINTS, num_samples=1000, seed=seed)
    near(found.marginal_kl, marginal)
    near(found.mean_kl, kl)
    assert "'c' is summed out" in " ".join(found.notes)
    assert found.unit_kl.isnan().all()


def test_classes_of_a_discrete_latent(seed):
    """I(n; z) = H(mean) − mean H and KL(q(z) ‖ p(z)), exactly known."""
    logits = torch.randn(30, 4, generator=torch.Generator().manual_seed(seed)).double() * 2
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Categorical(prior))
            pyro.sample("x", dist.Normal(z.double().unsqueeze(-1), 1.0).expand([*z.shape, 4]).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Categorical(logits=x))

    found = diagnose(model, guide, logits, num_samples=500, seed=seed)
    q = logits.softmax(-1)
    used, entropy = q.mean(0), torch.special.entr(q).sum(-1).mean()
    torch.testing.assert_close(found.classes["z"].used[0], used, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.classes["z"].prior[0], prior, rtol=0, atol=1e-10)
    assert found.classes["z"].perplexity[0].item() == pytest.approx(torch.special.entr(used).sum().exp().item())
    near(found.mutual_information, (torch.special.entr(used).sum() - entropy).item())
    near(found.marginal_kl, torch.special.xlogy(used, used / prior).sum().item())
    assert found.holes is None
    assert "no holes" in found.notes[0]
    assert found.names == ()
    assert found.reliability_message.startswith("Fine")


def test_binary_latents_and_a_continuous_one(seed):
    """Three Bernoullis and one normal: classes for each of the three, activity for the fourth."""
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(seed)).double()

    def model(x):
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Bernoulli(torch.full((3,), 0.5).double()).to_event(1))
            z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.cat([b, z], -1), 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("b", dist.Bernoulli(logits=x[:, :3]).to_event(1))
            pyro.sample("z", dist.Normal(x[:, 3:], 0.5).to_event(1))

    found = diagnose(model, guide, x, num_samples=4, seed=seed)
    torch.testing.assert_close(found.classes["b"].used[:, 1], x[:, :3].sigmoid().mean(0), rtol=0, atol=1e-10)
    torch.testing.assert_close(found.activity, x[:, 3:].var(0), rtol=0, atol=1e-10)
    assert found.holes is not None
    assert found.holes.midpoints is None


def test_inner_plates_and_matrix_latents(seed):
    """A latent for each of two places, and one of shape (2, 3): the same numbers as one flat latent of 8."""
    x = torch.randn(25, 8, generator=torch.Generator().manual_seed(seed)).double()

    def model(x):
        with pyro.plate("data", len(x), dim=-2):
            with pyro.plate("places", 2, dim=-1):
                u = pyro.sample("u", dist.Normal(x.new_zeros(()), 1.0))
            v = pyro.sample("v", dist.Normal(x.new_zeros(2, 3), 1.0).to_event(2))
            loc = torch.cat([u, v.flatten(-2).squeeze(-2)], -1).unsqueeze(-2)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x.unsqueeze(-2))

    def guide(x):
        with pyro.plate("data", len(x), dim=-2):
            with pyro.plate("places", 2, dim=-1):
                pyro.sample("u", dist.Normal(x[:, :2], 0.4))
            pyro.sample("v", dist.Normal(x[:, 2:].reshape(-1, 1, 2, 3), 0.4).to_event(2))

    found = diagnose(model, guide, x, num_samples=100, seed=seed)
    flat = diagnose(normal_model, normal_guide(0.4), x, num_samples=100, seed=seed + 100)
    assert found.names == ("u[0]", "u[1]", *(f"v[{i}, {j}]" for i in range(2) for j in range(3)))
    torch.testing.assert_close(found.activity, flat.activity, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.unit_kl, flat.unit_kl, rtol=0, atol=1e-10)
    assert found.mean_kl.value == pytest.approx(flat.mean_kl.value, abs=1e-10)
    error = math.hypot(found.mutual_information.mc_se, flat.mutual_information.mc_se)
    assert abs(found.mutual_information.value - flat.mutual_information.value) < SIGMAS * error + 1e-9


def test_an_autoguide_on_the_points_that_it_was_made_for(seed):
    """AutoNormal over a positive latent, on its unconstrained scale: quadrature of log-normals, holes included."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Gamma(x.new_full((1,), 2.0), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    x = column(0.2, 0.5, 1.0, 1.1, 2.0, 4.0)
    guide = AutoNormal(model, init_scale=0.4)
    guide(x)
    with torch.no_grad():
        guide.locs.z.copy_(x.log())
    grid = torch.exp(torch.linspace(-5, 5, 40_001, dtype=torch.float64))
    step = grid * (10 / 40_000)
    densities = dist.LogNormal(x.log(), 0.4).log_prob(grid).exp() * step
    information, marginal, kl = quadrature(densities, dist.Gamma(2.0, 1.0).log_prob(grid).double().exp() * step, 1.0)
    found = diagnose(model, guide, x, num_samples=2000, seed=seed)
    near(found.mutual_information, information)
    near(found.marginal_kl, marginal)
    near(found.mean_kl, kl)
    assert (found.means["z"][:, 0] / (x[:, 0] * math.exp(0.08)) - 1).abs().max() < SIGMAS * 0.42 / math.sqrt(2000)
    z = found.holes.latents["z"][:, 0].double()
    expected = dist.LogNormal(x.log(), 0.4).log_prob(z).logsumexp(0) - math.log(6)
    # scores are of the unconstrained latent: the change of variable is added back
    torch.testing.assert_close(found.holes.scores, expected, rtol=0, atol=1e-6)


# Holes


def test_a_known_hole_is_found_with_its_mass(seed):
    """Encodings at the prior's quantiles but those of −0.2 < z < 0.9: the share is the prior's mass where q(z) is lowest."""
    quantiles = dist.Normal(0.0, 1.0).icdf((torch.arange(2000).double() + 0.5) / 2000)
    x = quantiles[(quantiles < -0.2) | (quantiles > 0.9)][:, None]
    found = diagnose(normal_model, normal_guide(0.05), x, num_samples=8, prior_samples=4000, seed=seed)
    q = dist.Normal(x, 0.05).log_prob(GRID[::20]).exp().mean(0)
    order = q.argsort()
    inside = q[order].cumsum(0) * (16 / 2000) < holes.TAIL_FRACTION  # the lowest 1 % of q(z)
    prior = dist.Normal(0.0, 1.0).log_prob(GRID[::20]).exp() * (16 / 2000)
    mass = prior[order][inside].sum().item()
    hole = (dist.Normal(0.0, 1.0).cdf(torch.tensor(0.9)) - dist.Normal(0.0, 1.0).cdf(torch.tensor(-0.2))).item()
    assert 0.8 * hole < mass < hole + 0.02
    value, se = found.holes.share
    assert abs(value - mass) < SIGMAS * se
    assert se < 0.02
    assert found.reliability_message.startswith("Mismatched prior")


@pytest.mark.parametrize(("low", "high", "message"), [(0.8, 1.3, "Holes in the prior"), (1.0, 1.02, "Fine")])
def test_the_message_says_holes_that_are_more_than_chance(seed, low, high, message):
    """As above with less of the encodings taken out: 9 % of the prior in holes is told, and what chance leaves is not."""
    torch.manual_seed(seed)
    quantiles = dist.Normal(0.0, 1.0).icdf((torch.arange(1000) + 0.5) / 1000)
    x = quantiles[(quantiles < low) | (quantiles > high)][:, None]
    found = diagnose(normal_model, normal_guide(0.05), x, num_samples=8, prior_samples=4000, seed=seed)
    q = dist.Normal(x, 0.05).log_prob(GRID[::20]).exp().mean(0)
    order = q.argsort()
    inside = q[order].cumsum(0) * (16 / 2000) < holes.TAIL_FRACTION
    mass = (dist.Normal(0.0, 1.0).log_prob(GRID[::20]).exp() * (16 / 2000))[order][inside].sum().item()
    assert 0.08 < mass < 0.09 if message != "Fine" else mass < 0.02
    assert abs(found.holes.share.value - mass) < SIGMAS * found.holes.share.se
    assert found.reliability_message.startswith(message)
    if message != "Fine":
        assert f"but {found.holes.share.value:.0%} ± " in found.reliability_message


def test_a_prior_that_agrees_has_one_percent_in_holes(gaussian_data, seed):
    """PPCA on data of its own: the aggregate posterior of all x is the prior, in 5 dimensions with 400 points too."""
    torch.manual_seed(seed)
    model, guide = load("ppca")(8, latent=5)
    model.double()
    with torch.no_grad():
        model.log_sigma.fill_(-1.0)
        x = model.decode(torch.randn(400, 5).double()) + math.exp(-1) * torch.randn(400, 8).double()
    found = diagnose(model, guide, x, num_samples=8, seed=seed, prior_samples=4000)
    value, se = found.holes.share
    assert abs(value - holes.TAIL_FRACTION) < SIGMAS * se
    assert value < 0.05
    assert found.reliability_message.startswith("Fine")
    low, high = found.marginal_kl_range
    assert low == pytest.approx(0, abs=1e-12)  # of all x it is 0
    assert high > 0.1  # of 400 it is not
    information = 0.5 * torch.logdet(torch.eye(5).double() + model.W.mT @ model.W * math.exp(2)).item()
    assert abs(found.mean_kl.value - information) < SIGMAS * found.mean_kl.data_se


def test_boundary_samples_between_two_clusters_are_in_a_hole(seed):
    torch.manual_seed(seed)
    x = torch.cat([torch.randn(100, 1) - 10, torch.randn(100, 1) + 10]).double()
    found = diagnose(normal_model, normal_guide(0.5), x, num_samples=4, seed=seed)
    sides = x[found.holes.pairs][..., 0].sign().sum(-1)
    across = found.holes.midpoints < found.holes.threshold
    assert across[sides == 0].all()
    assert across[sides != 0].double().mean() < 0.1
    assert found.holes.midpoint_share.value == pytest.approx(across.double().mean().item())


def test_share_of_a_threshold(seed):
    torch.manual_seed(seed)
    reference = torch.rand(4, 500).double()  # the 1 % quantile is 0.01
    value, se = holes.fraction_below(torch.rand(3000).double() * 0.05, reference)
    assert abs(value - 0.2) < SIGMAS * se
    assert 0.02 < se < 0.08


def test_decoding_gives_the_mean_of_x():
    model, guide = load("ppca")(5, latent=2)
    x, z = torch.randn(9, 5), torch.randn(4, 2)
    with torch.no_grad():
        torch.testing.assert_close(decode(model, {"z": z}, x, inspect_pair(model, guide, x)), model.decode(z))


# Verdicts


def test_collapse_is_said():
    found = diagnose(normal_model, lambda x: normal_guide(1.0)(0.0 * x), torch.randn(50, 3).double(), num_samples=2)
    assert found.active_units() == 0
    assert found.mean_kl.value == pytest.approx(0, abs=1e-12)
    assert found.mutual_information.value == pytest.approx(0, abs=1e-10)
    assert found.reliability_message.startswith("Collapsed: z says 0.000 nats of x")


# What is left as it was, and what is refused


def test_random_state_and_modes_are_left_as_found():
    model, guide = load("vae")(6, latent=2, hidden=(5,))
    model.train(), guide.eval()
    x = torch.rand(12, 6)
    before = torch.random.get_rng_state()
    found = [diagnose(model, guide, x, seed=4), diagnose(model, guide, x, seed=4), diagnose(model, guide, x, seed=5)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.training
    assert not guide.training
    assert found[0].mutual_information == found[1].mutual_information != found[2].mutual_information


def test_arviz_holds_the_numbers(tmp_path):
    found = diagnose(normal_model, normal_guide(0.5), torch.randn(30, 2).double(), num_samples=3)
    found.to_arviz().to_netcdf(str(tmp_path / "x.nc"))
    back = arviz.from_netcdf(str(tmp_path / "x.nc"))
    np.testing.assert_allclose(back.sample_stats.information, found.information)
    np.testing.assert_allclose(back.sample_stats.activity.sel(unit="z[1]"), found.activity[1])
    np.testing.assert_allclose(back.posterior.z[0], found.draws)
    assert back.sample_stats.attrs["reliability_message"] == found.reliability_message


def refusal(match, model=normal_model, guide=None, x=POINTS, **options):
    with pytest.raises(InvalidInputError, match=match):
        diagnose(model, guide or normal_guide(0.5), x, **options)


def test_what_cannot_be_diagnosed_is_refused():
    refusal("One point has no variance over points .* at least 2", x=POINTS[:1])
    refusal("samples is 1: give a whole number, at least 2", num_samples=1)
    refusal("prior_samples is 0", prior_samples=0)
    refusal("Latent 'z' is in the model but not in the guide", guide=lambda x: None)

    def enumerated(x):
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(WEIGHTS), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(c.double().unsqueeze(-1), 1.0).to_event(1), obs=x)

    refusal("The guide draws nothing, every latent is summed out", enumerated, lambda x: None)

    def masked(x):
        with pyro.plate("data", len(x)), pyro.poutine.mask(mask=x[:, 0] > 0):
            pyro.sample("z", dist.Normal(x, 1.0).to_event(1))

    refusal("Latent 'z' is masked", guide=masked)

    def conditional(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    refusal("p\\(z\\) differs from point to point", conditional)


def test_autoguides_of_other_points_are_refused():
    guide = AutoNormal(normal_model)
    guide(POINTS)
    refusal("An autoguide belongs to the points that it was fitted on", guide=guide, x=POINTS[:3])
    joint = AutoDiagonalNormal(normal_model)
    joint(POINTS)
    refusal("use AutoNormal", guide=joint)


def test_a_helper_that_cannot_be_undone_leaves_out_the_holes():
    def guide(x):
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", dist.Normal(x, 0.5).to_event(1), infer={"is_auxiliary": True})
            shift = torch.full(h.shape[:-1], math.log(2.0)).to(h)
            pyro.sample("z", dist.Delta(h / 2, log_density=shift, event_dim=1))

    found = diagnose(normal_model, guide, torch.linspace(-2, 2, 60).double()[:, None], num_samples=4)
    assert found.holes is None
    assert "No holes are looked for" in found.notes[-1]
    assert found.mutual_information.value > 0.1


def test_a_density_that_only_its_own_draws_have_is_refused():
    flow = dist.transforms.Planar(1).double()

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.TransformedDistribution(dist.Normal(x, 0.5).to_event(1), [flow]))

    refusal("another point's latents \\(a flow needs an inverse\\) failed", guide=guide)


def test_encodings_that_no_other_point_reaches_have_no_holes_and_an_infinite_bound():
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Uniform(x - 0.1, x + 0.1).to_event(1))

    found = diagnose(normal_model, guide, torch.arange(30).double()[:, None] / 2, num_samples=4)
    assert found.holes is None
    assert "outside the support" in found.notes[-1]
    assert found.mutual_information.value == pytest.approx(math.log(30))
    assert found.mutual_information_upper.value == math.inf
    assert found.information_range[1] == found.mean_kl.value
    assert found.to_dict()["mutual_information_upper"]["value"] is None
