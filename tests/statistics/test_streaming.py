"""Statistics of log-weights that come in pieces, against the functions of all of them, and those against brute force."""

import math

import arviz
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from gaussians import Wrong, random_wrong

from pyrovae import log_weights
from pyrovae.statistics import log_weights as statistics
from pyrovae.statistics.log_weights import STATISTICS
from pyrovae.statistics.pareto import pareto_k_threshold, tail_length
from pyrovae.statistics.streaming import StreamingStatistics


def in_pieces(log_w, size):
    running = StreamingStatistics(len(log_w), log_w.shape[1], log_w.device)
    for piece in log_w.split(size):
        running.add(piece)
    return running.statistics()


@pytest.mark.parametrize("num_samples", [2, 30, 999, 5000])
@pytest.mark.parametrize("size", [1, 7, 5000])
def test_pieces_say_what_the_whole_says(num_samples, size):
    if size == 1 and num_samples == 5000:
        num_samples = 1200
    scale = torch.tensor([0.01, 1.0, 3.0, 12.0]).double()  # from an even tail to one weight that is all
    log_w = scale * torch.randn(num_samples, 4).double() - 700
    found = in_pieces(log_w, size)
    for name in STATISTICS:
        whole, ours = getattr(statistics, name)(log_w), found[name]
        if name in ("log_likelihood_se", "gap_se"):
            whole, ours = (
                num_samples * whole**2,
                num_samples * ours**2,
            )  # variances: of even weights, differences that cancel
        torch.testing.assert_close(ours, whole, rtol=1e-9, atol=1e-10, equal_nan=True)
    curve = statistics.bound_curve(log_w)
    torch.testing.assert_close(found["bound"], curve.value, rtol=0, atol=1e-9)
    torch.testing.assert_close(found["bound_se"], curve.se, rtol=0, atol=1e-9)


def test_weights_of_zero_count_as_draws_and_add_nothing():
    log_w = torch.randn(400, 3).double()
    log_w[::2, 1] = -math.inf
    found = in_pieces(log_w, 64)
    expected = log_w.exp().mean(dim=0).log()
    torch.testing.assert_close(found["log_likelihood"], expected, rtol=0, atol=1e-12)
    w = log_w.exp().numpy()
    np.testing.assert_allclose(found["log_likelihood_se"], w.std(0, ddof=1) / math.sqrt(400) / w.mean(0), atol=1e-12)
    assert found["elbo"][1] == -math.inf
    assert found["log_likelihood_jackknife"].isfinite().all()


def test_jackknife_is_its_definition():
    log_w = 2 * torch.randn(30, 4).double()
    without = torch.stack([statistics.log_likelihood(torch.cat([log_w[:s], log_w[s + 1 :]])) for s in range(30)])
    expected = 30 * statistics.log_likelihood(log_w) - 29 * without.mean(dim=0)
    torch.testing.assert_close(statistics.log_likelihood_jackknife(log_w), expected, rtol=0, atol=1e-10)


def test_jackknife_of_one_weight_that_is_all_is_a_number():
    """1 − w/Σw rounds to zero, 60 nats above the others, and its logarithm does not exist."""
    log_w = torch.zeros(1000, 1).double()
    log_w[17] = 60.0
    expected = statistics.log_likelihood(log_w) + 999 * (
        math.log1p(-1 / 1000) - (math.log(999) - float(torch.logsumexp(log_w, 0))) / 1000
    )
    torch.testing.assert_close(statistics.log_likelihood_jackknife(log_w), expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(in_pieces(log_w, 100)["log_likelihood_jackknife"], expected, rtol=1e-9, atol=0)


def test_constant_weights_have_no_tail_no_error_and_no_correction():
    for dtype in (torch.float64, torch.float32):
        for num_samples in (2, 10, 700):
            found = in_pieces(torch.full((num_samples, 3), -90.125, dtype=dtype), 50)
            assert (found["pareto_k"] == -math.inf).all()
            for name in ("elbo", "log_likelihood", "log_likelihood_jackknife"):
                torch.testing.assert_close(found[name], torch.full((3,), -90.125).double(), rtol=0, atol=1e-10)
            for name in ("elbo_se", "log_likelihood_se", "gap_se"):
                assert (found[name] < 1e-6).all()


def mild(ratio=0.8):
    """One latent, with ratio times the posterior's variance."""
    return Wrong(torch.ones(1, 1).double(), 1.0, torch.tensor([ratio / 2]).double())


def test_bias_is_chi_squared_over_2K_and_the_jackknife_removes_it():
    """log p − L_K = χ²/2K − (μ₃/3 − 3χ⁴/4)/K² + O(K⁻³), μ₃ the third central moment of w/p: from 20,000 blocks of K draws,
    each less the part of its error that is known to average zero, w̄/p − 1."""
    K, exact = 50, mild().log_prob(torch.zeros(1, 1).double())
    log_w = log_weights(*mild().pair, torch.zeros(20_000, 1).double(), K) - exact
    chi2, third = mild().moment(2) - 1, mild().moment(3) - 3 * mild().moment(2) + 2
    noise = log_w.exp().mean(dim=0) - 1
    low = -(statistics.log_likelihood(log_w) - noise)
    expected = chi2 / (2 * K) - (third / 3 - 3 * chi2**2 / 4) / K**2
    assert abs(low.mean() - expected) < 6 * low.std() / math.sqrt(20_000)
    left = statistics.log_likelihood_jackknife(log_w) - noise
    assert abs(left.mean()) < chi2 / (2 * K) / 10 + 6 * left.std() / math.sqrt(20_000)
    assert low.mean() > 6 * low.std() / math.sqrt(20_000)  # there was a bias to remove


def test_bound_curve_rises_from_the_elbo_as_theory_says():
    """One point, 100,000 draws: K = 1 is the ELBO, and each L_K with K ≥ 100 is log p − χ²/2K, within its own error."""
    wrong = mild()
    x = torch.tensor([[0.7]]).double()
    log_w = log_weights(*wrong.pair, x, 100_000)
    sizes, value, se = statistics.bound_curve(log_w)
    assert sizes == (1, 10, 100, 1000, 10_000, 100_000)
    torch.testing.assert_close(value[0], statistics.elbo(log_w))
    torch.testing.assert_close(value[-1], statistics.log_likelihood(log_w))
    exact = wrong.log_prob(x)
    assert abs(value[0] - (exact - wrong.gap)) < 6 * se[0]
    for K, bound, error in list(zip(sizes, value, se, strict=True))[2:-2]:
        assert abs(bound - (exact - (wrong.moment(2) - 1) / (2 * K))) < 6 * error
    blocks = log_w[:, 0].reshape(1000, 100).logsumexp(1) - math.log(100)
    torch.testing.assert_close(value[2, 0], blocks.mean(), rtol=0, atol=1e-10)
    torch.testing.assert_close(se[2, 0], blocks.std() / math.sqrt(1000), rtol=0, atol=1e-10)


def arviz_pareto_k(log_w):
    """As ArviZ has it, (N,): its version 1 takes the log-likelihoods, minus the log-weights."""
    if arviz.__version__.startswith("0."):
        return arviz.psislw(log_w.copy())[1]
    from arviz_stats.base import array_stats

    return array_stats.psislw(-log_w)[1]


@pytest.mark.parametrize("num_samples", [30, 400, 5000])
def test_pareto_k_is_what_arviz_finds_in_all_the_weights(num_samples):
    log_w = 2 * torch.randn(num_samples, 5).double()
    expected = arviz_pareto_k(log_w.mT.numpy())
    # ArviZ 1 rounds the length of a tail down
    tolerance = 1e-12 if arviz.__version__.startswith("0.") or num_samples in (30, 400) else 0.05
    np.testing.assert_allclose(statistics.pareto_k(log_w), expected, rtol=tolerance)
    np.testing.assert_allclose(in_pieces(log_w, 33)["pareto_k"], expected, rtol=tolerance)


@pytest.mark.parametrize("variance", [0.2, 0.3, 0.5, 0.7, 0.9])
def test_pareto_k_of_a_variance_ratio(variance):
    """k = 1 − s². The fit's error is (1 + k)/√T for a tail of T; a normal's weights have a factor 1/√log t besides their
    power of t, which at this depth lowers k̂ by up to 0.06."""
    wrong = mild(variance)
    assert wrong.tail == pytest.approx(1 - variance)
    k = statistics.pareto_k(log_weights(*wrong.pair, torch.zeros(60, 1).double(), 5000))
    error = (1 + wrong.tail) / math.sqrt(tail_length(5000))
    assert ((k - wrong.tail).abs() < 5.5 * error).all()
    assert abs(k.mean() - wrong.tail) < 0.09 + 6 * error / math.sqrt(60)


def test_weights_that_are_bounded_have_a_negative_pareto_k():
    """A guide wider than the posterior: near its maximum w falls with the square of z, a tail of index −2."""
    k = statistics.pareto_k(log_weights(*mild(1.5).pair, torch.zeros(60, 1).double(), 5000))
    assert -2 < k.mean() < -1  # the fit leans towards 1/2, where ArviZ has its prior


def test_pareto_k_of_correlated_posteriors_under_diagonal_guides():
    for ratio in (0.5, 0.8, 1.0):
        wrong = random_wrong(ratio=ratio)
        k = statistics.pareto_k(log_weights(*wrong.pair, wrong.draw(40), 5000))
        error = (1 + wrong.tail) / math.sqrt(tail_length(5000))
        assert abs(k.mean() - wrong.tail) < 0.12 + 6 * error / math.sqrt(40)


def test_too_few_draws_to_see_a_tail():
    assert statistics.pareto_k(torch.randn(25, 3)).isnan().all()
    assert not statistics.pareto_k(torch.randn(26, 3)).isnan().any()


def test_a_largest_weight_that_comes_often_has_no_tail():
    """Of 400 draws 60 make the tail. Where all of them have the largest weight there is none above it; with 59 there is a fit."""
    log_w = torch.full((400, 2), -1.0)
    log_w[:60, 0] = log_w[:59, 1] = 0.0
    assert statistics.pareto_k(log_w)[0] == -torch.inf
    assert statistics.pareto_k(log_w.double())[1].isfinite()


def test_threshold_grows_with_the_samples_to_0_7():
    assert pareto_k_threshold(100) == pytest.approx(0.5)
    assert pareto_k_threshold(1000) == pytest.approx(2 / 3)
    assert pareto_k_threshold(5000) == 0.7


def test_monte_carlo_error_covers_the_exact_value_where_the_variance_is_finite():
    """600 estimates of 1,000 draws, one latent, s² = 0.8: finite variance, and |error| < 1.96 se in 95 % of them; 6 binomial
    standard errors are 5 %. Correlated latents with the best diagonal guide likewise, where 2P − D⁻¹ is positive."""
    for wrong, x in ((mild(), torch.linspace(-2, 2, 600).double()[:, None]), (finite(), None)):
        x = wrong.draw(600) if x is None else x
        log_w = log_weights(*wrong.pair, x, 1000)
        error = statistics.log_likelihood(log_w) - wrong.log_prob(x)
        covered = (error.abs() < 1.96 * statistics.log_likelihood_se(log_w)).double().mean()
        assert 0.90 < covered < 0.999


def finite():
    """A correlated posterior whose best diagonal guide has weights with a fourth moment."""
    while True:
        wrong = random_wrong(sigma=1.5)
        if wrong.moment(4) < 1e3:
            return wrong


def test_gap_and_moments_of_the_weights_are_the_closed_forms():
    wrong = finite()
    x = wrong.draw(20)
    log_w = log_weights(*wrong.pair, x, 20_000)
    assert ((statistics.elbo(log_w) - (wrong.log_prob(x) - wrong.gap)).abs() < 6 * statistics.elbo_se(log_w)).all()
    best = 0.5 * (wrong.P.diagonal().log().sum() - torch.logdet(wrong.P))
    assert wrong.gap == pytest.approx(float(best), abs=1e-10)  # ratio 1: the best diagonal guide
    w = (log_w - wrong.log_prob(x)).exp()
    error = w.square().std() / math.sqrt(w.numel())
    assert abs(w.square().mean() - wrong.moment(2)) < 6 * error


def test_normals_agree_with_a_dense_posterior():
    """The oracle itself: log p(x) = log p(x, z) − log p(z|x) at any z."""
    wrong = random_wrong()
    x, z = wrong.draw(4), torch.randn(4, 3).double()
    joint = dist.Normal(0.0, 1.0).log_prob(z).sum(-1) + dist.Normal(z @ wrong.W.mT, wrong.sigma).log_prob(x).sum(-1)
    mean = torch.linalg.solve(wrong.P, wrong.W.mT @ x.mT / wrong.sigma**2).mT
    posterior = dist.MultivariateNormal(mean, precision_matrix=wrong.P)
    torch.testing.assert_close(wrong.log_prob(x), joint - posterior.log_prob(z), rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_no_tail(dtype):
    """k̂ knows no scale, so that it would find tails in the rounding of an exact guide's weights."""
    rounding = torch.distributions.StudentT(1.0).sample((50, 40)).clamp(-4, 4) * 1e-5
    log_w = (rounding - 1e4).to(dtype)
    assert (statistics.pareto_k(log_w) == -math.inf).all()
    assert (in_pieces(log_w, 7)["pareto_k"] == -math.inf).all()
    assert (statistics.pareto_k(1e5 * rounding) > pareto_k_threshold(50)).any()
