"""Probabilistic PCA in plain Pyro: a model, a guide, an SVI loop, log p(x). Then the same with `pyrovae.fit`."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO

import pyrovae

LATENT, EPOCHS = 4, 150


class PPCA(pyrovae.Module):
    """z ~ N(0, I), x|z ~ N(Wz + μ, σ²I)."""

    def __init__(self, x):
        super().__init__()
        self.W = torch.nn.Parameter(0.1 * torch.randn(x.shape[1], LATENT))
        self.mu = torch.nn.Parameter(x.mean(dim=0))
        self.log_sigma = torch.nn.Parameter(torch.tensor(-1.0))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(LATENT), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.W.T + self.mu, self.log_sigma.exp()).to_event(1), obs=x)


class LinearGuide(pyrovae.Module):
    """q(z|x) = N(Ax + b, L Lᵀ), the family of the exact posterior."""

    def __init__(self, x):
        super().__init__()
        self.mean = torch.nn.Linear(x.shape[1], LATENT)
        self.factor = torch.nn.Parameter(0.5 * torch.eye(LATENT))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            diagonal = self.factor.diagonal().abs() + 1e-6
            scale_tril = self.factor.tril(-1) + torch.diag(diagonal)
            pyro.sample("z", dist.MultivariateNormal(self.mean(x), scale_tril=scale_tril))


def maximum_likelihood(x, test):
    """log p(x) of the test points under the closed-form maximum (Tipping & Bishop 1999)."""
    mean, variances, directions = x.mean(dim=0), *torch.linalg.eigh(torch.cov(x.T, correction=0))
    noise = variances[:-LATENT].mean()
    W = directions[:, -LATENT:] * (variances[-LATENT:] - noise).sqrt()
    covariance = W @ W.T + noise * torch.eye(x.shape[1])
    return dist.MultivariateNormal(mean, covariance).log_prob(test).mean()


pyro.set_rng_seed(0)
data = pyrovae.load_data("digits")

model, guide = PPCA(data.train), LinearGuide(data.train)
schedule = pyro.optim.ClippedAdam({"lr": 1e-2, "lrd": 0.02 ** (1 / (EPOCHS * 12))})  # falls to a fiftieth
svi = SVI(model, guide, schedule, Trace_ELBO())
for _ in range(EPOCHS):
    for batch in data.train[torch.randperm(len(data.train))].split(128):
        svi.step(batch)
by_hand = pyrovae.evaluate(model, guide, data.test)

model, guide = PPCA(data.train), LinearGuide(data.train)
pyrovae.fit(model, guide, data.train, epochs=EPOCHS, lr=1e-2)
by_fit = pyrovae.evaluate(model, guide, data.test)

exact = float(maximum_likelihood(data.train, data.test))
for name, evidence in (("SVI", by_hand), ("fit", by_fit)):
    print(f"{name:4} log p(x) {evidence.mean_log_likelihood.value:.2f}, the closed form {exact:.2f} nats per picture")
    assert abs(evidence.mean_log_likelihood.value - exact) < 0.5
