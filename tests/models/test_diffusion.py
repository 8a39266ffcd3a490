"""Noise that is added by a known rule: dense Gaussian algebra for the guide, and Gaussian data for the whole pair."""

import itertools
import math

import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch.distributions import MultivariateNormal, kl_divergence
from typer.testing import CliRunner

import pyrovae
from pyrovae import check_pair, evaluate, fit, load, log_weights, sample
from pyrovae.cli.app import app

module = load("diffusion").module


def build(dim=3, dtype=torch.float64, **options):
    model, guide = load("diffusion")(dim, **{"width": 8, "steps": 5, **options})
    return model.to(dtype), guide.to(dtype)


def dense(model):
    """Mean (per unit of c) and covariance of z_1 … z_T of one dimension given c, by unrolling z_t = ρ_t z_{t−1} + noise."""
    snr = model.log_snr.exp()
    alpha, sigma2 = (snr / (1 + snr)).sqrt(), 1 / (1 + snr)
    covariance = torch.zeros(len(snr), len(snr)).to(snr)
    for t in range(len(snr)):
        covariance[t, t] = sigma2[t]
        for s in range(t):  # Cov(z_s, z_t | c) = (α_t/α_s) σ_s²
            covariance[s, t] = covariance[t, s] = alpha[t] / alpha[s] * sigma2[s]
    return alpha, covariance


@pytest.mark.parametrize("t", [2, 3, 5])
def test_a_step_is_the_conditional_of_the_joint_gaussian(t):
    """q(z_{t−1}|z_t, x) by conditioning the dense covariance, to rounding; averaged over c ~ N(m, v), by the law of total variance."""
    model, _ = build(1)
    alpha, covariance = dense(model)
    z, c, v = (torch.tensor([a]).double() for a in (0.7, -1.3, 0.4))
    weight = covariance[t - 2, t - 1] / covariance[t - 1, t - 1]
    variance = covariance[t - 2, t - 2] - weight * covariance[t - 1, t - 2]
    mean = alpha[t - 2] * c + weight * (z - alpha[t - 1] * c)
    step = model.step(z, t, c)
    torch.testing.assert_close(step.mean, mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(step.variance, variance.reshape(1), rtol=1e-10, atol=1e-10)
    spread = model.step(z, t, c, v)
    slope = alpha[t - 2] - weight * alpha[t - 1]
    torch.testing.assert_close(spread.mean, mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(spread.variance, (variance + slope**2 * v).reshape(1), rtol=1e-10, atol=1e-10)


def test_the_guide_draws_the_forward_process(seed):
    """Moments of 40,000 draws of all layers against the dense Gaussian's, each within 6 standard errors."""
    torch.manual_seed(seed)
    model, guide = build(1)
    model.initialise(torch.tensor([[0.5], [1.5], [4.0]]).double())
    x = torch.full((40_000, 1), 2.0).double()
    run = pyrovae.pair.execution.trace("guide", guide, x)
    z = torch.cat([run.nodes[f"z{t}"]["value"] for t in range(1, 6)], dim=1)
    alpha, covariance = dense(model)
    error = z - alpha * ((2.0 - 2.0) / model.scale)
    product = error.unsqueeze(1) * error.unsqueeze(2)
    assert (error.mean(0).abs() < 6 * error.std(0) / 200).all()
    assert ((product.mean(0) - covariance).abs() < 6 * product.std(0) / 200).all()


def oracle(covariance, steps, learn_variance=True):
    """A pair for x ~ N(m, S) that is told what the network and the decoder have to learn: E[c|z_t], the diagonal of Cov[c|z_t],
    and all of p(x|z_1). No noise is left of the prior's: SNR_T = e⁻¹⁶."""
    dim = len(covariance)
    model, guide = build(dim, steps=steps, learn_variance=learn_variance, ends=(3.0, -16.0))
    mean = torch.arange(dim).double()
    model.mean.copy_(mean)
    model.scale.copy_(covariance.diagonal().sqrt())
    scaled = covariance / (model.scale * model.scale.unsqueeze(1))  # of c

    def given(z, t):
        """c|z_t by conditioning: gain α S (α² S + σ² I)⁻¹."""
        alpha, sigma = (value.unsqueeze(-1) for value in model.signal(t))
        gain = alpha * scaled @ torch.linalg.inv(alpha**2 * scaled + sigma**2 * torch.eye(dim).double())
        return (gain @ z.unsqueeze(-1)).squeeze(-1), scaled - alpha * gain @ scaled

    def denoise(z, t):
        c, left = given(z, t)
        return c, left.diagonal(dim1=-2, dim2=-1)

    def decode(z):
        c, left = given(z, 1)
        return dist.MultivariateNormal(mean + model.scale * c, model.scale.unsqueeze(-1) * left * model.scale)

    model.denoise, model.decode = denoise, decode
    return model, guide, MultivariateNormal(mean, covariance)


S = torch.tensor([[2.0, 1.5, 0.3], [1.5, 2.0, -0.6], [0.3, -0.6, 1.0]]).double()


def test_told_the_truth_of_independent_numbers_every_weight_is_log_p(seed):
    """The reverse of a Gaussian with a diagonal covariance is p(z_{t−1}|z_t) itself at any T: the guide is the exact posterior, and
    weights have no variance, but for the e⁻¹⁶ that is left of x at z_T."""
    torch.manual_seed(seed)
    model, guide, truth = oracle(torch.diag(S.diagonal()), steps=4)
    x = truth.sample((20,))
    with torch.no_grad():
        weights = log_weights(model, guide, x, 50)
    assert (weights - truth.log_prob(x)).abs().max() < 1e-10


def lost(covariance, steps, learn_variance):
    """E_x[log p(x) − ELBO] = KL of the joint Gaussians = Σ_t KL(N(0, C_t) ‖ N(0, V_t)), with C_t the covariance of z_{t−1} given
    z_t under the data and V_t the model's, whose mean is the same; what is left of x at z_T is not counted, below 1e-13."""
    scale = covariance.diagonal().sqrt()
    scaled, one = covariance / (scale * scale.unsqueeze(1)), torch.eye(len(covariance)).double()
    snr = torch.linspace(3, -16, steps).double().exp()
    total = 0.0
    for above, below in itertools.pairwise(snr):
        alpha2, sigma2 = above / (1 + above), 1 / (1 + above)
        left = torch.linalg.inv(torch.linalg.inv(scaled) + below * one)  # Cov[c|z_t]
        r = below / above
        noise = (1 - r) * sigma2 * one
        true = noise + (1 - r) ** 2 * alpha2 * left
        said = noise + (1 - r) ** 2 * alpha2 * torch.diag(left.diagonal()) * learn_variance
        zero = torch.zeros(len(covariance)).double()
        total += kl_divergence(MultivariateNormal(zero, true), MultivariateNormal(zero, said))
    return float(total)


@pytest.mark.slow
@pytest.mark.parametrize("learn_variance", [True, False])
def test_told_the_truth_of_correlated_numbers_the_gap_falls_as_one_over_t(learn_variance, seed):
    """What the weights lose of log p(x) is the closed form's, within 6 standard errors, by draws and by one t for each point. That
    form is positive, and from 1,000 steps on twice the steps have half of it, to 1 %."""
    torch.manual_seed(seed)
    model, guide, truth = oracle(S, 12, learn_variance)
    x = truth.sample((20_000,))
    with torch.no_grad():
        by_draws = truth.log_prob(x) - log_weights(model, guide, x)[0]
        losses = torch.stack([module.OneStep().terms(model, guide, part).loss / len(part) for part in x.split(100)])
        by_one_t = truth.log_prob(x).reshape(200, 100).mean(1) + losses
    for found in (by_draws, by_one_t):
        assert abs(found.mean() - lost(S, 12, learn_variance)) < 6 * found.std() / math.sqrt(len(found))
    few, many = lost(S, 1000, learn_variance), lost(S, 2000, learn_variance)
    assert 0 < many < few < lost(S, 12, learn_variance)
    assert few / many == pytest.approx(2, rel=0.01)


def trained():
    torch.manual_seed(0)
    x = torch.randn(300, 2).sign() + 0.2 * torch.randn(300, 2)  # four clusters
    model, guide = build(2, torch.float32, width=32, ends=(0.5, -1.0))
    fit(model, guide, x, epochs=200, batch_size=100, lr=1e-2, compile=False)
    return model.double(), guide.double(), x.double()


@pytest.mark.slow
def test_one_t_for_each_point_has_the_mean_of_the_evidence(seed):
    """The training's loss, of networks that have learned something, against the mean log-weight of the same points: 6 standard
    errors of 1,000 losses and draws. Without a spread over t a batch's t are drawn alone, which has the same mean."""
    model, guide, x = trained()
    torch.manual_seed(seed)
    x = x[:20]
    with torch.no_grad():
        log_w = log_weights(model, guide, x, 1000).mean(1)
        losses = torch.stack([module.OneStep().terms(model, guide, x).loss for _ in range(1000)]) / len(x)
        alone = torch.stack([module.OneStep().terms(model, guide, x[:1]).loss for _ in range(1000)])
        first = log_weights(model, guide, x[:1], 1000)[:, 0]
    for value, loss in ((log_w, losses), (first, alone)):
        assert abs(value.mean() + loss.mean()) < 6 * ((value.var() + loss.var()) / 1000).sqrt()


def test_what_it_draws_has_the_moments_of_the_data(seed):
    """A Gaussian's pair that is told the truth, at many steps: mean and covariance of 20,000 draws within 6 standard errors, and a
    hundredth for the steps' own error."""
    torch.manual_seed(seed)
    model, _, truth = oracle(S, 200)
    x = sample(model, 20_000, truth.sample((1,)))
    error = x - truth.mean
    product = error.unsqueeze(1) * error.unsqueeze(2)
    assert (error.mean(0).abs() < 6 * error.std(0) / math.sqrt(len(x))).all()
    assert ((product.mean(0) - S).abs() < 6 * product.std(0) / math.sqrt(len(x)) + 0.01).all()


def test_a_new_pair_is_the_gaussian_of_the_data():
    """Before a step is taken, c's given mean and variance are those of c ~ N(0, I), whose layers the guide's own marginals are."""
    model, guide = build(3)
    x = torch.rand(50, 3).double() + torch.tensor([0.0, 2.0, -1.0]).double()
    fit(model, guide, x, epochs=0)
    for t in range(2, 6):
        (alpha, sigma), z = model.signal(t), torch.randn(4, 3).double()
        mean, variance = model.denoise(z, t)
        torch.testing.assert_close(mean, alpha * z)  # Cov(c, z_t) / Var z_t, Var z_t = 1
        torch.testing.assert_close(variance, (sigma**2).expand(4, 3), rtol=1e-5, atol=0)
    clean = model.clean(x)
    torch.testing.assert_close(clean.mean(0), torch.zeros(3).double(), atol=1e-10, rtol=0)
    torch.testing.assert_close(clean.var(0, correction=0), torch.ones(3).double(), rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    "options", [{}, {"steps": 2}, {"learn_variance": False}, {"likelihood": pyrovae.likelihoods.Bernoulli()}]
)
def test_contract(options):
    model, guide = build(4, torch.float32, **options)
    x = torch.rand(12, 4)
    check_pair(model, guide, x.round() if "likelihood" in options else x)


def test_a_guide_without_parameters_is_fitted_by_one_t_and_scored():
    model, guide, x = trained()
    assert not list(guide.parameters())
    found = fit(model, guide, x, epochs=1)
    assert found.objective == "OneStep"
    evidence = evaluate(model, guide, x[:50], num_samples=200)
    assert evidence.mean_gap.value > 0
    assert evidence.latent == "5 × R^2"
    gaussian = MultivariateNormal(x.mean(0), torch.cov(x.mT))
    assert evidence.mean_elbo.value > float(gaussian.log_prob(x[:50]).mean()) + 0.4  # nats, above the best Gaussian's


def test_the_caller_and_the_warm_up_come_before_a_guides_own_objective():
    model, guide = build(3, torch.float32)
    x = torch.rand(20, 3)
    assert fit(model, guide, x, epochs=1, objective=Trace_ELBO()).objective == "Trace_ELBO"
    with pytest.raises(pyrovae.InvalidInputError, match="OneStep knows nothing of it: leave kl_warmup_fraction out"):
        fit(model, guide, x, epochs=1, kl_warmup_fraction=0.5)


def test_commands_train_it_and_a_run_comes_back(tmp_path):
    run, out = CliRunner().invoke, tmp_path / "run"
    words = ["train", "diffusion", "--out", str(out), "--epochs", "2", "--set", "steps=3", "--set", "width=8"]
    trained = run(app, words)
    assert trained.exit_code == 0, trained.output
    assert "OneStep" in trained.output
    assert (
        pyrovae.load_run(out).fit_result.history[-1]["elbo"] < 0
    )  # a row of an epoch has an ELBO, for the loss is its estimate
    drawn = run(app, ["sample", str(out), "--num-samples", "4"])
    assert drawn.exit_code == 0, drawn.output


def test_what_is_no_noise_is_refused():
    for options in ({"steps": 1}, {"ends": (-3.0, 3.0)}):
        with pytest.raises(pyrovae.InvalidInputError, match="2 steps or more, and log SNR falls"):
            load("diffusion")(4, **options)
    assert load("diffusion").parse(["steps=50", "ends=3,-5"])["ends"] == (3.0, -5.0)
