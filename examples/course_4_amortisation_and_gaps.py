# %% [markdown]
# # 4. Amortisation, and where the gap comes from
#
# log p(x) − ELBO = KL(q(z|x) ‖ p(z|x)). Two things make it large. The family of q may not hold the posterior: the approximation
# gap. And one network must serve all x, and does not give each x the best q of the family: the amortisation gap
# (Cremer, Li & Duvenaud 2018).

# %%
import torch

import pyrovae

torch.manual_seed(0)
data = pyrovae.load_data("digits")
x = data.test[:24]
model, guide = pyrovae.load("vae")(data.dim, latent=2, hidden=(50,))
pyrovae.fit(model, guide, data.train, epochs=60, lr=2e-3)

# %% [markdown]
# ## One point
#
# The lines are what the guide says of z at one point. The filled areas are the true posterior there, on a grid.

# %%
pyrovae.plots.posterior(pyrovae.exploration.posterior_of_point(model, guide, data.test, 3))

# %% [markdown]
# ## Refine q for each point
#
# `refine` starts at the guide's q and climbs the ELBO of each point on its own. What it gains is the amortisation gap.

# %%
gaps = pyrovae.gap(model, guide, x, num_samples=500, annealing=False)
for label, estimate, _ in gaps.rows():
    print(f"{label:32} {estimate.value:8.3f} ± {estimate.data_se:.3f}")

# %%
pyrovae.plots.gap_bars({"vae": gaps})

# %% [markdown]
# The refined bound lies above the amortised one, and below log p(x).

# %%
amortised, refined = float(gaps.elbo.mean()), float(gaps.refined_elbo.mean())
best = float(torch.maximum(gaps.weighted, gaps.refined).mean())
print(f"ELBO {amortised:.2f} ≤ ELBO of the refined q {refined:.2f} ≤ log p(x) ≈ {best:.2f}")
assert amortised < refined < best + 0.05
