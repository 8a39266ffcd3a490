"""Mixture, PCA and VAE of binary images in one table: the continuous three have densities, and may not stand among them."""

import torch

import pyrovae

torch.manual_seed(0)
data = pyrovae.load_data("digits", "binarise")  # a fresh Bernoulli draw at every use of a training image
pairs = {
    "mixture": pyrovae.load("bernoulli_mixture")(data.dim, components=20),
    "PCA": pyrovae.load("bernoulli_pca")(data.dim, latent=8),
    "VAE": pyrovae.load("vae")(data.dim, latent=8, likelihood=pyrovae.likelihoods.Bernoulli()),
}
for name, (model, guide) in pairs.items():
    losses = pyrovae.fit(model, guide, data.train, epochs=40, lr=5e-3).losses
    print(f"{name:8} training ELBO {-losses[-1]:.2f} nats per image")

comparison = pyrovae.compare(pairs, data.test, num_samples=500, transform=data.transform)
for name, evidence in comparison.evidence.items():
    value, mc_se, data_se = comparison.difference(name, comparison.best)
    print(
        f"{name:8} log p̂(x) {evidence.mean_log_likelihood.value:.2f}, to the best {value:.2f} ± {mc_se:.2f} ± {data_se:.2f}"
    )

try:
    pyrovae.compare({**pairs, "density": pyrovae.load("gmm")(data.dim)}, data.test, num_samples=10)
except pyrovae.InvalidInputError as refusal:
    print(f"refused: {refusal}")
else:
    raise AssertionError("a density was compared with a probability")
exact = comparison.evidence["mixture"].exact_log_likelihood
assert torch.allclose(exact, comparison.evidence["mixture"].log_likelihood, atol=1e-3)
