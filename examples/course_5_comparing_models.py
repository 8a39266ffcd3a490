# %% [markdown]
# # 5. How to compare models
#
# A number without its errors is no result. Three questions come before "which model is better?":
#
# 1. Are both numbers of the same data, the same transform and the same base measure?
# 2. Is each number reliable, or only a lower bound?
# 3. Is the difference larger than its error? Pair the points: what makes a point hard for both models cancels.

# %%
import torch

import pyrovae

torch.manual_seed(0)
data = pyrovae.load_data("digits")
settings = {"gmm": {"components": 10}, "ppca": {"latent": 8}, "vae": {"latent": 4, "hidden": (100,)}}
pairs, fits = {}, {}
for name, options in settings.items():
    pairs[name] = pyrovae.load(name)(data.dim, **options)
    fits[name] = pyrovae.fit(*pairs[name], data.train, epochs=60, lr=5e-3)

# %%
comparison = pyrovae.compare(pairs, data.test, num_samples=300, transform=data.transform)
comparison

# %% [markdown]
# ## The difference, paired
#
# The data error of a mean is large, because digits differ. Most of it is common to both models.

# %%
table = comparison.table()
table[["log_likelihood", "log_likelihood_data_se", "difference", "difference_data_se", "reliability"]]

# %%
second = table["log_likelihood"].nlargest(2).index[1]
paired = comparison.difference(second, comparison.best)
apart = (table.loc[[second, comparison.best], "log_likelihood_data_se"] ** 2).sum() ** 0.5
print(
    f"{second} − {comparison.best}: {paired.value:.2f} ± {paired.data_se:.2f} nats; unpaired it would be ± {apart:.2f}"
)
assert paired.data_se < apart

# %% [markdown]
# ## Training curves mislead
#
# The ELBO of training says nothing of new points. The diamonds are the held-out ELBO.

# %%
pyrovae.plots.learning_curves(fits, comparison.evidence)

# %% [markdown]
# ## A transform changes the number
#
# A density of x is one per unit of x. On the scale of the original pixels, in bits per dimension, transforms can be compared.

# %%
for name, evidence in comparison.evidence.items():
    print(f"{name:5} {evidence.mean_log_likelihood.value:8.2f} nats = {evidence.bits_per_dim:.3f} bits per dimension")
assert comparison.best == table["log_likelihood"].idxmax()
