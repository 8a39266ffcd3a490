"""A VQ-VAE in a plain training loop: its guide draws nothing, and brings an objective of its own. Then the same with `pyrovae.fit`."""

import torch

import pyrovae

EPOCHS = 20

torch.manual_seed(0)
data = pyrovae.load_data("digits")

model, guide = pyrovae.load("vqvae")(data.dim)
model.initialise(data.train)
objective = guide.objective()  # the ELBO, with a gradient that passes through the choice of a code
optimiser = torch.optim.Adam([*model.parameters(), *guide.parameters()], lr=2e-3)
for _ in range(EPOCHS):
    for batch in data.train[torch.randperm(len(data.train))].split(128):
        optimiser.zero_grad()
        (objective.terms(model, guide, batch).loss / len(batch)).backward()
        optimiser.step()
pairs = {"loop": (model, guide), "fit": pyrovae.load("vqvae")(data.dim)}
pyrovae.fit(*pairs["fit"], data.train, epochs=EPOCHS, lr=2e-3)

for name, (model, guide) in pairs.items():
    evidence = pyrovae.evaluate(model, guide, data.test, num_samples=1, transform=data.transform)
    print(
        f"{name:4} ELBO {evidence.mean_elbo.value:.2f} nats per picture, which is all that a deterministic guide can say"
    )
    assert evidence.deterministic_guide
    assert evidence.mean_elbo.value > 20
