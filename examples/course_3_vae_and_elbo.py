# %% [markdown]
# # 3. The variational autoencoder and its ELBO
#
# A VAE is probabilistic PCA with networks in place of the matrices. Its posterior has no closed form, so a second network, the
# guide, approximates it. Training maximises the ELBO, which is at most log p(x):
#
# ELBO = E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)) = log p(x) − KL(q(z|x) ‖ p(z|x)).

# %%
from itertools import pairwise

import torch

import pyrovae

torch.manual_seed(0)
data = pyrovae.load_data("digits")
model, guide = pyrovae.load("vae")(data.dim, latent=2, hidden=(100,))
fitted = pyrovae.fit(model, guide, data.train, epochs=80, lr=2e-3)
fitted

# %% [markdown]
# The band in the figure is the KL term: what q(z|x) says of z beyond the prior. The two terms add up to the ELBO:

# %%
last = fitted.history[-1]
print(f"{last['reconstruction']:.2f} − {last['kl']:.2f} = {last['elbo']:.2f} nats per point")
assert abs(last["reconstruction"] - last["kl"] - last["elbo"]) < 1e-3

# %% [markdown]
# ## What the latent space holds
#
# Labels colour the points; the model has never seen them.

# %%
encodings = pyrovae.exploration.encode(model, guide, data.test)
pyrovae.plots.latent_scatter(encodings, data.test_labels, data.label_names)

# %%
pyrovae.plots.manifold(pyrovae.exploration.manifold(model, guide, data.test, 15), data)

# %%
pyrovae.plots.samples(pyrovae.exploration.generate(model, data.test, 12), data)

# %% [markdown]
# ## The ELBO is a bound
#
# Importance weights of K draws give a bound that rises to log p(x) with K (Burda et al. 2016). At K = 1 it is the ELBO.

# %%
evidence = pyrovae.evaluate(model, guide, data.test, num_samples=500)
evidence

# %%
bounds = [estimate.value for estimate in evidence.mean_bound_curve.values()]
print("bounds for K =", list(evidence.mean_bound_curve), [round(bound, 2) for bound in bounds])
assert all(after > before for before, after in pairwise(bounds))
assert evidence.mean_elbo.value < evidence.mean_log_likelihood.value
