"""Train probabilistic PCA by SVI on real images, estimate log p(x) from log-weights, and hold it against the exact value."""

import torch

import pyrovae

torch.manual_seed(0)
data = pyrovae.load_data("digits")  # 1,797 real 8 × 8 images, dequantised
model, guide = pyrovae.load("ppca")(data.dim, latent=8)
guide = pyrovae.guides.FullCovariance(data.dim, latent=8)  # another guide is another line

fit = pyrovae.fit(model, guide, data.train, epochs=50, lr=1e-2)
evidence = pyrovae.evaluate(model, guide, data.test, num_samples=1000, transform=data.transform)

estimate, exact = evidence.mean_log_likelihood, evidence.mean_exact_log_likelihood
print(f"ELBO     {evidence.mean_elbo.value:8.3f} nats per image")
print(f"log p̂(x) {estimate.value:8.3f} ± {estimate.mc_se:.4f} (Monte Carlo) ± {estimate.data_se:.3f} (data)")
print(f"log p(x) {exact.value:8.3f} exact")

assert evidence.mean_elbo.value < estimate.value < exact.value + 6 * estimate.mc_se
assert abs(estimate.value - exact.value) < 6 * estimate.mc_se + 0.05
