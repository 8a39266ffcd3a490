"""A diffusion model under Pyro's SVI, which draws all layers. Then `pyrovae.fit`, by the objective that the guide brings."""

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO

import pyrovae

EPOCHS = 20

pyro.set_rng_seed(0)
data = pyrovae.load_data("digits")

model, guide = pyrovae.load("diffusion")(data.dim)  # z_T, …, z_1, x: ten layers under a guide that only adds noise
model.initialise(data.train)
svi = SVI(model, guide, pyro.optim.Adam({"lr": 2e-3}), Trace_ELBO())
for _ in range(EPOCHS):
    for batch in data.train[torch.randperm(len(data.train))].split(128):
        svi.step(batch)
pairs = {"SVI": (model, guide), "fit": pyrovae.load("diffusion")(data.dim)}
pyrovae.fit(
    *pairs["fit"], data.train, epochs=EPOCHS, lr=2e-3
)  # one random layer for each point: two passes, and not ten

for name, (model, guide) in pairs.items():
    evidence = pyrovae.evaluate(model, guide, data.test, num_samples=10, transform=data.transform)
    print(f"{name:4} ELBO {evidence.mean_elbo.value:.2f} nats per picture")
    assert evidence.mean_elbo.value > 30
