"""A VAE with two layers of latents in plain Pyro: a model, a guide, an SVI loop. Then the same with `pyrovae.fit`."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import nn

import pyrovae

TOP, BOTTOM, EPOCHS = 4, 8, 40


def network(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 100), nn.Tanh(), nn.Linear(100, outputs))


def normal(outputs):
    """N(μ, diag σ²) from (μ, log σ) beside one another."""
    loc, log_scale = outputs.chunk(2, dim=-1)
    return dist.Normal(loc, log_scale.exp()).to_event(1)


class Model(pyrovae.Module):
    """z₂ ~ N(0, I), z₁|z₂ ~ N(μ(z₂), diag σ²(z₂)), x|z₁ ~ Bernoulli(sigmoid(f(z₁)))."""

    def __init__(self, dim):
        super().__init__()
        self.down, self.decoder = network(TOP, 2 * BOTTOM), network(BOTTOM, dim)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            top = pyro.sample("z2", dist.Normal(x.new_zeros(TOP), 1.0).to_event(1))
            bottom = pyro.sample("z1", normal(self.down(top)))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(bottom)).to_event(1), obs=x)


class Guide(pyrovae.Module):
    """q(z₁|x) q(z₂|z₁)."""

    def __init__(self, dim):
        super().__init__()
        self.encoder, self.up = network(dim, 2 * BOTTOM), network(BOTTOM, 2 * TOP)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            bottom = pyro.sample("z1", normal(self.encoder(x)))
            pyro.sample("z2", normal(self.up(bottom)))


pyro.set_rng_seed(0)
data = pyrovae.load_data("digits", "threshold")  # pixels 0 or 1

model, guide = Model(data.dim), Guide(data.dim)
svi = SVI(model, guide, pyro.optim.Adam({"lr": 3e-3}), Trace_ELBO())
for _ in range(EPOCHS):
    for batch in data.train[torch.randperm(len(data.train))].split(128):
        svi.step(batch)
pairs = {"SVI": (model, guide), "fit": (Model(data.dim), Guide(data.dim))}
pyrovae.fit(*pairs["fit"], data.train, epochs=EPOCHS, lr=3e-3)

comparison = pyrovae.compare(pairs, data.test, transform=data.transform)
for name, evidence in comparison.evidence.items():
    print(f"{name:4} log p(x) {evidence.mean_log_likelihood.value:.2f}, ELBO {evidence.mean_elbo.value:.2f}")
    assert evidence.mean_elbo.value < evidence.mean_log_likelihood.value
    assert evidence.reliability == "reliable"
assert abs(comparison.difference("SVI", "fit").value) < 1.5
