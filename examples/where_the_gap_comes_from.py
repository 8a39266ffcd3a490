"""Split the gap between log p(x) and the ELBO into the part of the guide's family and the part of its network.

Bounds on log p(x) from both sides, and values known in closed form, stand beside it.
"""

import torch

import pyrovae

torch.manual_seed(0)
data = pyrovae.load_data("digits")  # 1,797 real 8 × 8 images, dequantised
model, exact_guide = pyrovae.load("ppca")(data.dim, latent=8)
pyrovae.fit(model, exact_guide, data.train, epochs=300, batch_size=None, lr=2e-2)

guide = pyrovae.guides.MeanField(
    data.dim, latent=8, hidden=(50,)
)  # diagonal, where the posterior is not; and trained for a moment
for parameter in model.parameters():
    parameter.requires_grad_(False)
pyrovae.fit(model, guide, data.train, epochs=20, lr=2e-3)

x = data.test[:50]
result = pyrovae.gap(model, guide, x, pyrovae.posterior.DiagonalGaussian(), num_samples=2000)
for name, mean in (
    ("log p̂(x)", result.mean_log_likelihood),
    ("approximation gap", result.mean_approximation),
    ("amortisation gap", result.mean_amortisation),
):
    print(f"{name:18} {mean.value:8.3f} ± {mean.mc_se:.3f} (Monte Carlo) ± {mean.data_se:.3f} (data)")

sides = pyrovae.bdmc(model, guide, x, points=20)
print(sides)

# The best diagonal Gaussian of a Gaussian posterior with precision P misses ½ [Σ ln P_ii − ln det P]; the rest is the network's.
precision = torch.linalg.inv(model.posterior(x).covariance_matrix[0])
approximation = 0.5 * float(precision.diagonal().log().sum() - torch.logdet(precision))
amortisation = float((model.log_prob(x).double() - result.elbo).mean()) - approximation
print(f"in closed form: approximation {approximation:.3f}, amortisation {amortisation:.3f}")

assert abs(result.mean_approximation.value - approximation) < 5 * result.mean_approximation.mc_se + 0.03
assert abs(result.mean_amortisation.value - amortisation) < 5 * result.mean_amortisation.mc_se + 0.03
assert (sides.lower - sides.exact).mean() < 4 * sides.mean_lower.mc_se + 0.01
assert (sides.upper - sides.exact).mean() > -4 * sides.mean_upper.mc_se - 0.01

# Worn as a guide, the refinement closes the network's part of the gap.
worn = pyrovae.evaluate(model, pyrovae.posterior.SemiAmortised(model, guide), x, num_samples=1000)
print(f"gap of the guide {float((result.exact - result.elbo).mean()):.3f}, refined {worn.mean_gap.value:.3f}")
assert abs(float((worn.exact_log_likelihood - worn.elbo).mean()) - approximation) < 5 * worn.mean_elbo.mc_se + 0.03
