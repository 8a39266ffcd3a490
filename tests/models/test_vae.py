"""A VAE with a 2-D latent, where log p(x), the posterior and every KL can be had by quadrature."""

import math

import pytest
import torch
from torch import nn

import pyrovae
from pyrovae import evaluate, fit, load

LIKELIHOODS = {
    "bernoulli": pyrovae.likelihoods.Bernoulli,
    "normal": pyrovae.likelihoods.Normal,
    "fixed": lambda: pyrovae.likelihoods.FixedNormal(0.5),
    "pixel": pyrovae.likelihoods.PixelNormal,
}


def trained(likelihood, guide, epochs=60):
    torch.manual_seed(0)
    z = torch.randn(200, 2)
    x = torch.sigmoid(2 * z @ torch.randn(2, 5) + 0.3 * torch.randn(200, 5))
    x = x.round() if likelihood == "bernoulli" else x
    model, q = load("vae")(5, latent=2, hidden=(16,), likelihood=LIKELIHOODS[likelihood](), guide=guide)
    fit(model, q, x, epochs=epochs, batch_size=50, lr=5e-3)
    return model.double(), q.double(), x[:6].double()


def quadrature(model, guide, x, width=9.0, steps=701):
    """log p(x), and KL(q(z|x) ‖ p(z|x)), by the midpoint rule on a square of the latent plane."""
    axis = (torch.arange(steps).double() + 0.5) / steps * 2 * width - width
    z = torch.cartesian_prod(axis, axis)
    log_cell = 2 * math.log(2 * width / steps)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    with torch.no_grad():
        decoded = model.decode(z)
        q = guide.distribution(guide.encoder(x))
        every_log_q = type(q).log_prob(q.expand((len(x),)), z[:, None].expand(-1, len(x), -1))
        log_p, kl = [], []
        for point, log_q in zip(x, every_log_q.unbind(1), strict=True):
            joint = prior + decoded.log_prob(point)
            log_p.append(torch.logsumexp(joint, 0) + log_cell)
            assert abs((log_q + log_cell).exp().sum() - 1) < 1e-6
            kl.append(((log_q + log_cell).exp() * (log_q - joint + log_p[-1])).sum())
    return torch.stack(log_p), torch.stack(kl)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("guide", [pyrovae.guides.MeanField, pyrovae.guides.FullCovariance])
def test_evidence_against_quadrature(likelihood, guide, seed):
    model, q, x = trained(likelihood, guide)
    log_p, kl = quadrature(model, q, x)
    found = evaluate(model, q, x, num_samples=20_000, seed=seed)
    assert ((found.log_likelihood - log_p).abs() < 6 * found.log_likelihood_se + 1e-6).all()
    assert (found.elbo < log_p + 6 * found.elbo_se).all()
    assert ((log_p - found.elbo - kl).abs() < 6 * found.elbo_se + 1e-6).all()
    assert ((found.gap - kl).abs() < 6 * found.gap_se + 1e-6).all()


def test_any_module_is_a_decoder_and_an_encoder():
    """A convolutional decoder knows only flat batches of latents: (B, k), not (samples, N, k)."""

    class Images(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.up = nn.Linear(3, 4 * 2 * 2), nn.ConvTranspose2d(4, 1, 2, stride=2)

        def forward(self, z):
            assert z.dim() == 2
            return self.up(self.first(z).reshape(-1, 4, 2, 2)).flatten(1)

    encoder = nn.Sequential(nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 6))
    from pyrovae.models.vae import VAE

    model, guide = VAE(Images(), 3, 16, pyrovae.likelihoods.Normal()), pyrovae.guides.MeanField(16, 3, encoder=encoder)
    x = torch.rand(10, 16)
    pyrovae.check_pair(model, guide, x)
    losses = fit(model, guide, x, epochs=40, lr=0.01).losses
    assert losses[-1] < losses[0] - 1


def test_encoder_of_the_wrong_width():
    guide = pyrovae.guides.MeanField(4, 3, encoder=nn.Linear(4, 5))
    with pytest.raises(
        pyrovae.InvalidInputError, match=r"encoder returns \(2, 5\) where MeanField\(latent=3\) needs \(2, 6\)"
    ):
        guide(torch.rand(2, 4))


def test_it_begins_at_the_datas_moments():
    torch.manual_seed(0)
    x = torch.rand(400, 3) * torch.tensor([0.2, 1.0, 2.0])
    for likelihood in (
        pyrovae.likelihoods.Normal(),
        pyrovae.likelihoods.PixelNormal(),
        pyrovae.likelihoods.Bernoulli(),
    ):
        points = (x > x.mean()).float() if isinstance(likelihood, pyrovae.likelihoods.Bernoulli) else x
        model, guide = load("vae")(3, latent=2, hidden=(4,), likelihood=likelihood)
        for parameter in model.decoder.parameters():
            parameter.data.zero_()  # a decoder that has learned nothing
        fit(model, guide, points, epochs=0)
        decoded = model.decode(torch.zeros(2))
        torch.testing.assert_close(
            decoded.mean, points.mean(0).clamp(0.01, 0.99 if points.max() <= 1 else 9), atol=1e-3, rtol=0
        )
        if isinstance(likelihood, pyrovae.likelihoods.PixelNormal):
            torch.testing.assert_close(
                decoded.variance - likelihood.floor, points.var(0, correction=0), atol=2e-3, rtol=0
            )


def test_shared_variance_ends_at_the_mean_squared_error():
    """The optimum of σ-VAE (Rybkin et al. 2021, eq. 6), here with a decoder that only knows its offset."""
    torch.manual_seed(0)
    x = torch.randn(300, 4) * torch.tensor([0.5, 1.0, 1.5, 2.0])
    model, guide = load("vae")(4, latent=1, hidden=(4,), likelihood=pyrovae.likelihoods.Normal())
    for parameter in model.decoder.parameters():
        parameter.data.zero_()
        parameter.requires_grad_(False)
    fit(model, guide, x, epochs=200, batch_size=None, lr=0.05)
    decoded = model.decode(torch.zeros(1))
    error = ((x - decoded.mean) / model.scale).square().mean().item()  # in the units of each column
    assert model.likelihood.variance.item() == pytest.approx(error, rel=0.01)
    torch.testing.assert_close(decoded.variance, x.var(0, correction=0), rtol=0.02, atol=0)
