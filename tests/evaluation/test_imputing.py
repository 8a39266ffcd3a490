"""Missing entries filled: against conditional normals of the full covariance, quadrature, and the values that were taken out."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import norm

import pyrovae
from pyrovae import InvalidInputError, impute, load
from tests.oracles import missing_entries as oracle


def conditionals(mixture, row):
    """Of one point: p(k|observed), and mean and covariance of the missing entries in each component, by NumPy."""
    seen = ~np.isnan(row)
    means, covariances = [], []
    for _, mean, covariance in mixture:
        gain = covariance[np.ix_(~seen, seen)] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
        means.append(mean[~seen] + gain @ (row[seen] - mean[seen]))
        covariances.append(covariance[np.ix_(~seen, ~seen)] - gain @ covariance[np.ix_(seen, ~seen)])
    shares = oracle.log_joint(mixture, torch.tensor(row).reshape(1, -1)).softmax(-1)[0].numpy()
    return shares, np.array(means), np.array(covariances)


def started(name, x):
    model, guide = oracle.build(name)
    torch.manual_seed(0)
    model.initialise(x)
    return model, guide


@pytest.mark.parametrize("name", oracle.PAIRS)
def test_means_and_intervals_are_those_of_the_conditional_normals(name):
    x = oracle.points(count=40)
    model, guide = started(name, x)
    filled = impute(model, guide, x, level=0.8)
    assert filled.method == "exact"
    mixture = oracle.components(model)
    for row, mean, low, high in zip(x.numpy(), filled.mean, filled.lower, filled.upper, strict=True):
        missing = np.isnan(row)
        if not missing.any():
            continue
        shares, means, covariances = conditionals(mixture, row)
        np.testing.assert_allclose(mean[missing], shares @ means, atol=1e-9)
        sds = np.sqrt(np.array([covariance.diagonal() for covariance in covariances]))
        for end, probability in ((low, 0.1), (high, 0.9)):
            np.testing.assert_allclose(shares @ norm.cdf((end[missing].numpy() - means) / sds), probability, atol=1e-9)


@pytest.mark.parametrize("name", ["gaussian", "gmm", "factor_analysis", "mixture_ppca"])
def test_draws_have_the_conditional_moments(name):
    """All missing entries of a point are drawn together: their covariance is right, to five standard errors."""
    x = oracle.points(count=40)
    model, guide = started(name, x)
    point = x[x.isnan().sum(-1) >= 2][:1]
    draws = impute(model, guide, point, num_draws=1500).draws[:, 0]
    missing = point[0].isnan()
    assert torch.equal(draws[:, ~missing], point[0, ~missing].expand(1500, -1))
    shares, means, covariances = conditionals(oracle.components(model), point[0].numpy())
    mean = shares @ means
    second = covariances + means[:, :, None] * means[:, None, :]
    covariance = np.einsum("k,kde->de", shares, second) - np.outer(mean, mean)
    sd, drawn = np.sqrt(covariance.diagonal()), draws[:, missing].numpy()
    assert (np.abs(drawn.mean(0) - mean) < 5 * sd / math.sqrt(1500)).all()
    assert (np.abs(np.cov(drawn.T) - covariance) < 0.2 * np.outer(sd, sd)).all()


def test_observed_entries_stay_as_they_are():
    x = oracle.points()
    for name in ("gaussian", "mixture_fa"):
        filled = impute(*started(name, x), x)
        seen = ~x.isnan()
        for values in (filled.mean, filled.lower, filled.upper, *filled.draws):
            assert torch.equal(values[seen], x[seen])
            assert torch.isfinite(values).all()


def vae(likelihood, latent=1):
    torch.manual_seed(0)
    model, guide = load("vae")(4, latent=latent, hidden=(5,), likelihood=likelihood)
    model.double(), guide.double()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(2).add_(0.2 * torch.randn_like(parameter))
    return model, guide


@pytest.mark.parametrize("likelihood", [pyrovae.likelihoods.Normal(), pyrovae.likelihoods.Bernoulli()])
def test_means_of_a_vae_are_those_of_quadrature(likelihood):
    """E[x_m|x_o] = ∫ E[x_m|z] p(z|x_o) dz on a grid, to what 1,000 weighted draws leave."""
    model, guide = vae(likelihood)
    x = torch.randn(10, 4).double()
    x = (x > 0).double() if isinstance(likelihood, pyrovae.likelihoods.Bernoulli) else x
    x[torch.rand(10, 4) < 0.4] = math.nan
    filled = impute(model, guide, x)
    assert filled.method == "importance_sampling"
    z = torch.linspace(-8, 8, 1001).double().unsqueeze(-1)
    with torch.no_grad():
        density = model.decode(z)
        for row, mean, ess in zip(x, filled.mean, filled.ess, strict=True):
            seen = ~row.isnan()
            each = density.base_dist.log_prob(row.nan_to_num(0.0).expand(1001, -1))[:, seen].sum(-1)
            weights = (each - z[:, 0].square() / 2).softmax(0)
            expected = weights @ density.mean
            sd = (weights @ (density.mean - expected).square()).sqrt()
            assert bool(((mean - expected).abs()[~seen] <= 6 * sd[~seen] / ess.sqrt() + 1e-6).all())


def test_weighted_draws_agree_with_the_exact_density():
    """A linear model that hides that it knows the answer."""
    x = oracle.points(count=30)
    model, guide = started("ppca", x)
    exact = impute(model, guide, x)
    hidden = type("Hidden", (), {"handles_missing": True, "__call__": lambda self, x: model(x)})()
    weighted = impute(hidden, guide, x, num_draws=1000)
    assert (exact.method, weighted.method) == ("exact", "importance_sampling")
    width = exact.upper - exact.lower
    cells = exact.missing
    assert ((weighted.mean - exact.mean).abs() / width)[cells].max() < 0.08
    assert ((weighted.lower - exact.lower).abs() / width)[cells].mean() < 0.05
    assert ((weighted.upper - exact.upper).abs() / width)[cells].mean() < 0.05
    assert ((weighted.draws.std(0) - width / (2 * 1.645)).abs() / width)[cells].mean() < 0.05


def covered(filled, truth):
    inside = (filled.lower <= truth) & (truth <= filled.upper)
    share, count = inside[filled.missing].double().mean().item(), int(filled.missing.sum())
    return share, math.sqrt(filled.level * (1 - filled.level) / count)


@pytest.mark.parametrize("name", ["gaussian", "gmm", "mixture_fa"])
def test_intervals_cover_what_was_taken_out(name, seed):
    """Of points that the model draws, to five standard errors of a proportion."""
    model, guide = started(name, oracle.points())
    torch.manual_seed(seed)
    truth = pyrovae.sample(model, 400, oracle.points()[:2].nan_to_num(0.0)).double()
    x = torch.where(torch.rand(truth.shape) < 0.3, math.nan, truth)
    share, se = covered(impute(model, guide, x, level=0.8), truth)
    assert abs(share - 0.8) < 5 * se


def test_intervals_of_a_vae_cover_what_was_taken_out(seed):
    model, guide = vae(pyrovae.likelihoods.Normal(), latent=2)
    torch.manual_seed(seed)
    truth = pyrovae.sample(model, 150, torch.zeros(2, 4).double()).double()
    x = torch.where(torch.rand(truth.shape) < 0.3, math.nan, truth)
    share, se = covered(impute(model, guide, x, level=0.8), truth)
    assert abs(share - 0.8) < 5 * se + 0.01


def test_the_same_seed_gives_the_same_numbers_and_torchs_state_is_left():
    x = oracle.points(count=20)
    model, guide = started("gmm", x)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (impute(model, guide, x, seed=3).draws for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


def test_bits_are_filled_with_bits():
    x = (torch.randn(30, 4) > 0).float()
    x[torch.rand(30, 4) < 0.3] = math.nan
    model, guide = load("bernoulli_mixture")(4, components=2)
    model.initialise(x)
    filled = impute(model, guide, x)
    assert set(filled.draws.unique().tolist()) <= {0.0, 1.0}
    family, share = model.components.family(), model.log_joint(x).softmax(-1).detach()
    expected = share @ family.mean.detach()
    torch.testing.assert_close(filled.mean[filled.missing], expected[filled.missing], rtol=0, atol=1e-6)


def test_mapped_to_other_units():
    x = oracle.points(count=20)
    model, guide = started("gaussian", x)
    filled = impute(model, guide, x)
    other = filled.mapped(lambda values: 10 * values + 3)
    torch.testing.assert_close(other.lower, 10 * filled.lower + 3)
    torch.testing.assert_close(other.draws, 10 * filled.draws + 3)


def test_what_cannot_be_imputed_is_refused():
    x = oracle.points(count=20).float()
    with pytest.raises(InvalidInputError, match="takes no missing values"):
        impute(*load("pca")(5), x)
    with pytest.raises(InvalidInputError, match="level is 1.5: give a probability between 0 and 1"):
        impute(*load("ppca")(5), x, level=1.5)
    with pytest.raises(InvalidInputError, match="num_draws"):
        impute(*load("ppca")(5), x, num_draws=0)

    class Sums(pyrovae.Module):
        handles_missing = True

        def forward(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
                pyro.sample("total", dist.Normal(z.sum(-1), 1.0), obs=x.nansum(-1))

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))

    with pytest.raises(InvalidInputError, match="does not observe x itself at one site"):
        impute(Sums(), guide, x)
