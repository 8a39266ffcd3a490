# %% [markdown]
# # 1. A mixture of Gaussians and EM
#
# A mixture says: draw a class c, then draw x from the Gaussian of that class. The class is latent: nobody observes it.
# This notebook is the file `examples/course_1_mixture_and_em.py`. VS Code and JupyterLab (with jupytext) open it. It runs as a script too.

# %%
from itertools import pairwise

import torch

import pyrovae

torch.manual_seed(0)
data = pyrovae.load_data("iris")
data

# %% [markdown]
# ## Gradients or EM
#
# The class can be summed out, so log p(x) = log Σ_c p(c) p(x|c) is exact. Two ways lead up: steps along the gradient, and EM.
# EM sets q(c|x) to the posterior, then sets the parameters to the best for that q. No step of EM can lower log p(x).

# %%
builder = pyrovae.load("gmm")
model, guide = builder(data.dim, components=3)
model.initialise(data.train)
curve = [float(model.em_step(data.train)) for _ in range(40)]
print(f"EM: {curve[0]:.3f} nats per point, after 40 steps {curve[-1]:.3f}")
assert all(after >= before - 1e-4 for before, after in pairwise(curve))

# %%
by_gradient, its_guide = builder(data.dim, components=3)
fitted = pyrovae.fit(by_gradient, its_guide, data.train, epochs=300, lr=1e-2)
fitted

# %% [markdown]
# ## What was found
#
# The exact guide is the posterior p(c|x), so the gap between ELBO and log p(x) is 0. `compare` shows it.

# %%
comparison = pyrovae.compare({"EM": (model, guide), "gradients": (by_gradient, its_guide)}, data.test, num_samples=100)
comparison

# %%
comparison.table()[["log_likelihood", "log_likelihood_data_se", "gap", "reliability"]]

# %%
parts = pyrovae.exploration.take_apart(model, guide, data.test)
pyrovae.plots.components(parts, data)

# %% [markdown]
# The classes were not used in training. How well do they agree with the three species?

# %%
found = parts.responsibilities.argmax(-1)
agreed = sum(int((data.test_labels[found == c].bincount()).max()) for c in found.unique())
print(f"{agreed} of {len(data.test)} flowers lie in the class of their species")
assert agreed > 0.8 * len(data.test)
assert float(comparison.table()["gap"].abs().max()) < 1e-3
