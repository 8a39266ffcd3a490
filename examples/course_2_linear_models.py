# %% [markdown]
# # 2. PCA, probabilistic PCA and the linear autoencoder
#
# Three models that look alike. PCA keeps the directions with the most variance. A linear autoencoder learns the same subspace
# from squared error. Probabilistic PCA adds noise, and so it has a density p(x).

# %%
import torch

import pyrovae

torch.manual_seed(0)
data = pyrovae.load_data("digits")
latent = 8
pairs = {
    "pca": pyrovae.load("pca")(data.dim, latent=latent),
    "ppca": pyrovae.load("ppca")(data.dim, latent=latent),
    "autoencoder": pyrovae.load("autoencoder")(data.dim, latent=latent, hidden=()),
}
for name, (model, guide) in pairs.items():
    settings = {"epochs": 0} if name == "pca" else {"epochs": 200, "lr": 5e-3}
    pyrovae.fit(model, guide, data.train, **settings)

# %% [markdown]
# ## Reconstructions
#
# All three encode x to 8 numbers and decode them. PCA has the smallest possible squared error of all linear maps on the training data.

# %%
results = {name: pyrovae.exploration.reconstruct(*pair, data.test) for name, pair in pairs.items()}
for name, result in results.items():
    print(
        f"{name:12} squared error {result.mean_squared_error:.4f} per pixel, explained {result.explained_variance:.1%}"
    )
assert abs(results["pca"].explained_variance - results["autoencoder"].explained_variance) < 0.005

# %%
pyrovae.plots.reconstructions(results["pca"], data)

# %% [markdown]
# ## The same subspace
#
# The autoencoder's columns are no eigenvectors, but they span the same space. The cosines of the angles between two subspaces are
# the singular values of Q₁ᵀQ₂: all near 1.

# %%
decoder = pairs["autoencoder"][0].decoder[0].weight.detach()
span = torch.linalg.qr(decoder)[0]
cosines = torch.linalg.svdvals(span.mT @ pairs["pca"][0].eigenvectors())
print("cosines of the angles:", [round(value, 3) for value in cosines.tolist()])
assert float(cosines.min()) > 0.95

# %% [markdown]
# ## Only one of them has a density
#
# PCA puts all x into a subspace, outside of which there is no probability. The autoencoder has no distribution at all.

# %%
evidence = pyrovae.evaluate(*pairs["ppca"], data.test)
evidence

# %%
for name in ("pca", "autoencoder"):
    try:
        pyrovae.evaluate(*pairs[name], data.test)
    except pyrovae.InvalidInputError as refusal:
        print(f"{name}: {refusal}")

# %%
pyrovae.plots.components(pyrovae.exploration.take_apart(*pairs["pca"], data.test), data)
assert evidence.reliability == "reliable"
