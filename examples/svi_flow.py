"""A normalising flow in plain Pyro: the parameters of a density, an SVI loop without latents. Then the same with `pyrovae.fit`."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.transforms import affine_coupling
from pyro.infer import SVI, Trace_ELBO

import pyrovae

EPOCHS, LAYERS = 20, 4


class Flow(pyrovae.Module):
    """x = T(ε), ε ~ N(0, I): log p(x) = log N(T⁻¹(x) | 0, I) + log |det ∂T⁻¹/∂x|."""

    def __init__(self, dim):
        super().__init__()
        self.parts = torch.nn.ModuleList(affine_coupling(dim, [64]) for _ in range(LAYERS))
        for part in self.parts:
            torch.nn.init.zeros_(part.nn.layers[-1].weight)  # begin near the identity
            torch.nn.init.zeros_(part.nn.layers[-1].bias)

    def distribution(self, x):
        flip = dist.transforms.Permute(torch.arange(x.shape[-1] - 1, -1, -1))
        transforms = [part for layer in self.parts for part in (layer, flip)]
        return dist.TransformedDistribution(dist.Normal(x.new_zeros(x.shape[-1]), 1.0).to_event(1), transforms)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", self.distribution(x), obs=x)

    def log_prob(self, x):
        return self.distribution(x).log_prob(x)


def guide(x):
    pass


pyro.set_rng_seed(0)
data = pyrovae.load_data("digits", "logit")

by_hand = Flow(data.dim)
svi = SVI(by_hand, guide, pyro.optim.Adam({"lr": 2e-3}), Trace_ELBO())
for _ in range(EPOCHS):
    for batch in data.train[torch.randperm(len(data.train))].split(128):
        svi.step(batch)

by_fit = Flow(data.dim)
pyrovae.fit(by_fit, guide, data.train, epochs=EPOCHS, lr=2e-3)

before = float(dist.Normal(0.0, 1.0).log_prob(data.test).sum(-1).mean())
for name, model in (("SVI", by_hand), ("fit", by_fit)):
    value = pyrovae.evaluate(model, guide, data.test, transform=data.transform).mean_log_likelihood.value
    print(f"{name:4} log p(x) {value:.2f} nats per picture; N(0, I) has {before:.2f}")
    assert value > before + 20
