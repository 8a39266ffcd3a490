"""A variational autoencoder in plain Pyro: a model, a guide, an SVI loop, log p(x). Then the same with `pyrovae.fit`."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import nn

import pyrovae

LATENT, EPOCHS = 8, 40


class Decoder(pyrovae.Module):
    """The model: z ~ N(0, I), x|z ~ Bernoulli(sigmoid(f(z)))."""

    def __init__(self, dim):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(LATENT, 100), nn.Tanh(), nn.Linear(100, dim))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(LATENT), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.network(z)).to_event(1), obs=x)


class Encoder(pyrovae.Module):
    """The guide: q(z|x) = N(μ(x), diag σ²(x))."""

    def __init__(self, dim):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(dim, 100), nn.Tanh(), nn.Linear(100, 2 * LATENT))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            loc, log_scale = self.network(x).chunk(2, dim=-1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


pyro.set_rng_seed(0)
data = pyrovae.load_data("digits", "threshold")  # pixels 0 or 1

model, guide = Decoder(data.dim), Encoder(data.dim)
svi = SVI(model, guide, pyro.optim.Adam({"lr": 3e-3}), TraceMeanField_ELBO())
for _ in range(EPOCHS):
    order = torch.randperm(len(data.train))
    loss = sum(svi.step(batch) for batch in data.train[order].split(128)) / len(order)
print(f"SVI  ELBO of the last epoch {-loss:.2f} nats per picture")
by_hand = pyrovae.evaluate(model, guide, data.test, transform=data.transform)

model, guide = Decoder(data.dim), Encoder(data.dim)
fit = pyrovae.fit(model, guide, data.train, epochs=EPOCHS, lr=3e-3)
print(f"fit  ELBO of the last epoch {fit.history[-1]['elbo']:.2f} nats per picture")
by_fit = pyrovae.evaluate(model, guide, data.test, transform=data.transform)

for name, evidence in (("SVI", by_hand), ("fit", by_fit)):
    print(f"{name:4} log p(x) {evidence.mean_log_likelihood.value:.2f}, {evidence.reliability}")
    assert evidence.mean_elbo.value < evidence.mean_log_likelihood.value
    assert evidence.reliability == "reliable"
assert abs(by_hand.mean_log_likelihood.value - by_fit.mean_log_likelihood.value) < 1.0
