"""Bounds of VAEs on the observed entries of x: against quadrature over the latents, and PPCA's closed form."""

import math

import numpy as np
import pytest
import torch

import pyrovae
from pyrovae import evaluate, fit, load, log_weights
from pyrovae.likelihoods import Bernoulli, LogisticMixture, Normal, PixelNormal, StudentT
from tests.oracles import missing_entries as oracle

ON_GRID = {
    "Normal": (Normal, {}),
    "PixelNormal": (PixelNormal, {}),
    "StudentT": (StudentT, {}),
    "Bernoulli": (Bernoulli, {}),
    "LogisticMixture": (LogisticMixture, {"levels": 5, "count": 2}),
}


def holes(x, share=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(x.shape, generator=generator) < share, math.nan, x)


def data_for(name):
    torch.manual_seed(1)
    x = torch.randn(12, 4).double()
    if name == "Bernoulli":
        x = (x > 0).double()
    return holes((x * 2 + 2).clamp(0, 4).round() / 4 if name == "LogisticMixture" else x)


def by_quadrature(model, x, latent, reach=8.0, count=401):
    """log ∫ p(x_observed|z) N(z; 0, I) dz on a grid; p(x_d|z) is that of a point with every entry observed."""
    axis = torch.linspace(-reach, reach, count if latent == 1 else 161).double()
    z = torch.cartesian_prod(*[axis] * latent).reshape(-1, latent)
    log_prior = torch.distributions.Normal(0, 1).log_prob(z).sum(-1) + latent * (axis[1] - axis[0]).log()
    with torch.no_grad():
        density = model.decode(z)
        entries = getattr(density, "base_dist", density)
        values = []
        for row in x:
            each = entries.log_prob(row.nan_to_num(0.0).expand(len(z), -1))  # 0 is in every support
            values.append((each[:, ~row.isnan()].sum(-1) + log_prior).logsumexp(0))
    return torch.stack(values)


@pytest.mark.parametrize("latent", [1, 2])
@pytest.mark.parametrize("name", ON_GRID)
def test_log_likelihood_is_that_of_the_observed_entries(name, latent):
    """Within five standard errors of quadrature, by modes and importance sampling."""
    x = data_for(name)
    family, options = ON_GRID[name]
    torch.manual_seed(0)
    model, guide = load("vae")(4, latent=latent, hidden=(5,), likelihood=family(**options))
    model.double(), guide.double()
    model.initialise(x)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(2).add_(0.1 * torch.randn_like(parameter))
    expected = by_quadrature(model, x, latent)
    evidence = evaluate(model, guide, x, tolerance=0.02)
    error = (evidence.log_likelihood - expected).abs()
    assert bool((error < 5 * evidence.log_likelihood_se + 1e-3).all())
    assert set(evidence.method) <= {"laplace", "ais"}
    assert evidence.mean_elbo.value < expected.mean().item() + 5 * evidence.mean_elbo.mc_se


def test_mean_weight_of_the_guide_is_the_likelihood_of_the_observed_entries():
    """Miwae's bound tends to log p(x_observed) whatever the encoder makes of the zeros."""
    x = data_for("Normal")
    torch.manual_seed(0)
    model, guide = load("vae")(4, latent=1, hidden=(5,), likelihood=Normal())
    model.double(), guide.double()
    model.initialise(x)
    log_w = log_weights(model, guide, x, 20_000).detach()
    estimate, se = pyrovae.log_likelihood(log_w), (log_w.softmax(0).square().sum(0) - 1 / 20_000).sqrt()
    assert bool(((estimate - by_quadrature(model, x, 1)).abs() < 5 * se + 1e-3).all())


def test_linear_vae_is_ppca():
    """Its likelihood is exact, and its ELBO below by the gap of a guide that sees 0 for missing entries."""
    x = oracle.points(count=80)
    model, guide = load("linear_vae")(5, latent=2)
    model.double(), guide.double()
    fit(model, guide, x, epochs=40, batch_size=None, lr=1e-2)
    exact = oracle.log_prob(oracle.components(model), x)
    torch.testing.assert_close(model.log_prob(x).detach(), exact, rtol=0, atol=1e-10)
    evidence = evaluate(model, guide, x)
    assert evidence.mean_elbo.value < exact.mean().item()
    hidden = type("Hidden", (), {"handles_missing": True, "__call__": lambda self, x: model(x)})()
    sampled = evaluate(hidden, guide, x, tolerance=0.02)  # without log_prob: by the modes of the posterior
    assert set(sampled.method) == {"laplace"}
    assert bool(((sampled.log_likelihood - exact).abs() < 5 * sampled.log_likelihood_se + 1e-6).all())


@pytest.mark.slow
def test_a_linear_decoder_learns_what_ppca_does():
    """A VAE trained by SVI on the observed entries comes near the maximum of PPCA's likelihood, from below."""
    x = oracle.points(count=100, share=0.2)
    best, _ = load("ppca")(5, latent=1)
    best.double().initialise(x)
    pyrovae.EM(steps=500, tol=1e-9)(best, x)
    torch.manual_seed(0)
    decoder = torch.nn.Linear(1, 5, bias=False)
    model, guide = load("vae")(5, latent=1, hidden=(20,), likelihood=Normal(), decoder=decoder)
    # in the columns' own units PPCA is another model: here all columns have one
    model.double(), guide.double()
    model.initialise(x)
    model.scale.fill_(1.0)
    fit(model, guide, x, epochs=600, batch_size=None, lr=3e-2, compile=False)
    reached, most = evaluate(model, guide, x).mean_log_likelihood.value, best.log_prob(x).mean().item()
    assert most - 0.1 < reached < most + 0.02


def test_encoder_sees_the_mean_of_a_missing_column():
    x = oracle.points() * 100 + 700
    model, guide = load("vae")(5, latent=2, hidden=(5,))
    model.double(), guide.double()
    model.initialise(x)
    guide.encoder.start(x)
    filled = torch.where(x.isnan(), x.nanmean(dim=0), x)
    torch.testing.assert_close(guide.encoder(x), guide.encoder(filled), rtol=0, atol=1e-10)


def test_an_encoder_of_ones_own_sees_zero_or_what_it_asks_for():
    class Asks(torch.nn.Module):
        handles_missing = True

        def forward(self, x):
            self.seen = x
            return torch.zeros(len(x), 4).to(x)

    class Plain(Asks):
        handles_missing = False

    x = oracle.points()
    for encoder, expected in ((Asks(), x), (Plain(), x.nan_to_num(0.0))):
        model, guide = load("vae")(5, latent=2, encoder=encoder)
        log_weights(model.double(), guide, x)
        torch.testing.assert_close(encoder.seen, expected, rtol=0, atol=0, equal_nan=True)


def test_networks_trained_elsewhere_are_scored_on_the_observed_entries():
    x = data_for("Normal").float()
    encoder, decoder = torch.nn.Linear(4, 2), torch.nn.Linear(1, 4)
    model, guide = pyrovae.from_networks(encoder, decoder, 1, pyrovae.likelihoods.FixedNormal(0.8))
    z = torch.linspace(-8, 8, 2001).unsqueeze(-1)
    each = torch.distributions.Normal(decoder(z), 0.8).log_prob(x.nan_to_num(0.0).unsqueeze(1)).detach()
    log_p = (each * ~x.isnan().unsqueeze(1)).sum(-1) + torch.distributions.Normal(0, 1).log_prob(z[:, 0])
    expected = log_p.logsumexp(-1) + math.log(16 / 2000)
    evidence = evaluate(model, guide, x, tolerance=0.02)
    assert bool(((evidence.log_likelihood - expected).abs() < 5 * evidence.log_likelihood_se + 1e-3).all())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vae", {"guide": pyrovae.guides.FullCovariance, "prior": pyrovae.priors.VampPrior}),
        ("vae", {"guide": pyrovae.guides.IAF}),
        ("gmvae", {"components": 2}),
        ("hierarchical_vae", {"latents": (2, 2)}),
    ],
)
def test_kin_of_the_vae_train_and_are_scored(name, options):
    x = oracle.points().float()
    if name != "hierarchical_vae":
        options = {"latent": 2, **options}
    model, guide = load(name)(5, hidden=(8,), **options)
    torch.manual_seed(0)
    result = fit(model, guide, x, epochs=15, batch_size=20, lr=1e-2)
    assert result.losses[-1] < result.losses[0]
    assert torch.isfinite(log_weights(model, guide, x, 5)).all()


def test_bernoulli_pca_and_mixture_take_missing_bits():
    x = data_for("Bernoulli").float()
    for name in ("bernoulli_pca", "bernoulli_mixture"):
        model, guide = load(name)(4, **{"latent": 1} if name == "bernoulli_pca" else {"components": 2})
        fit(model, guide, x, epochs=10)
        assert torch.isfinite(log_weights(model, guide, x)).all()
    p = model.components.family().mean.detach().double()
    shares = model.logits.detach().softmax(-1).double()
    expected = [
        math.log(
            sum(
                float(share) * float(torch.where(row == 1, each, 1 - each)[~row.isnan()].prod())
                for share, each in zip(shares, p, strict=True)
            )
        )
        for row in x
    ]
    np.testing.assert_allclose(model.log_prob(x).detach().numpy(), expected, atol=1e-5)
    climb = [float(model.em_step(x)) for _ in range(10)]
    assert np.diff(climb).min() > -1e-6


@pytest.mark.parametrize("objective", [pyrovae.objectives.IWAE(5), pyrovae.objectives.DReG(5)])
def test_recorded_steps_of_miwae_follow_the_holes(objective):
    x = oracle.points(share=0.15)
    x[::3] = x[::3].nan_to_num(0.0)
    losses = []
    for compile in (False, True):
        torch.manual_seed(0)
        model, guide = load("vae")(5, latent=2, hidden=(8,))
        model.double(), guide.double()
        result = fit(model, guide, x, epochs=3, batch_size=10, lr=1e-2, compile=compile, objective=objective)
        losses.append(result.losses)
    np.testing.assert_allclose(*losses, rtol=1e-8)
