"""A mixture of diagonal Gaussians in plain Pyro: a model, an SVI loop, log p(x). Then the same with `pyrovae.fit`."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceEnum_ELBO, config_enumerate

import pyrovae

CLASSES, EPOCHS, FLOOR = 10, 60, 0.03


class Mixture(pyrovae.Module):
    """z ~ Cat(π), x|z ~ N(μ_z, diag σ_z²)."""

    def __init__(self, x):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(CLASSES))
        self.loc = torch.nn.Parameter(x[torch.randperm(len(x))[:CLASSES]].clone())
        self.rho = torch.nn.Parameter(torch.full((CLASSES, x.shape[1]), -1.0))

    def scale(self):
        return FLOOR + torch.nn.functional.softplus(self.rho)

    @config_enumerate  # the class is summed out exactly, so the guide has nothing to draw
    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Categorical(logits=self.logits))
            pyro.sample("x", dist.Normal(self.loc[z], self.scale()[z]).to_event(1), obs=x)

    def log_prob(self, x):
        classes, normals = dist.Categorical(logits=self.logits), dist.Normal(self.loc, self.scale()).to_event(1)
        return dist.MixtureSameFamily(classes, normals).log_prob(x)


def guide(x):
    pass


pyro.set_rng_seed(0)
data = pyrovae.load_data("digits")

by_hand = Mixture(data.train)
svi = SVI(by_hand, guide, pyro.optim.Adam({"lr": 2e-2}), TraceEnum_ELBO(max_plate_nesting=1))
for _ in range(EPOCHS):
    for batch in data.train[torch.randperm(len(data.train))].split(256):
        svi.step(batch)

by_fit = Mixture(data.train)
pyrovae.fit(by_fit, guide, data.train, epochs=EPOCHS, batch_size=256, lr=2e-2)

one_gaussian = dist.Normal(data.train.mean(0), data.train.std(0).clamp(min=FLOOR)).to_event(1)
baseline = float(one_gaussian.log_prob(data.test).mean())
comparison = pyrovae.compare({"SVI": (by_hand, guide), "fit": (by_fit, guide)}, data.test, transform=data.transform)
for name, evidence in comparison.evidence.items():
    print(f"{name:4} log p(x) {evidence.mean_log_likelihood.value:.2f} nats per picture; one Gaussian {baseline:.2f}")
    assert evidence.mean_log_likelihood.value > baseline + 10
