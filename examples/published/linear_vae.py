"""Linear VAE: at its optimum the ELBO is the largest log p(x) of PPCA, and a latent collapses where its eigenvalue is at most σ².

The closed form of PPCA (Tipping & Bishop 1999), with σ² the mean of the discarded eigenvalues λ of the data's covariance:
log p = −N/2 [Σ_{j≤k} ln λ_j + (D − k) ln σ² + D ln 2π + D].
"""

import math

import torch
from record import Line, Recorder
from sklearn.datasets import load_breast_cancer, load_iris, load_wine

import pyrovae

recorder = Recorder(
    "linear_vae",
    "The linear VAE has no gap at its optimum",
    "Lucas, Tucker, Grosse & Norouzi (2019), Don't blame the ELBO! A linear VAE perspective on posterior collapse",
    "nats a point",
    "columns of variance 1; trained on all points by SVI; the published value is PPCA's maximum likelihood in closed form",
    latent=2,
    epochs=2000,
    seed=0,
)
lines = []
for name, load in {"iris": load_iris, "wine": load_wine, "breast_cancer": load_breast_cancer}.items():
    x = torch.as_tensor(load().data).double()
    x = (x - x.mean(0)) / x.std(0, correction=0)
    torch.manual_seed(recorder["seed"])
    model, guide = pyrovae.load("linear_vae")(x.shape[1], latent=recorder["latent"])
    model, guide = model.double(), guide.double()
    pyrovae.fit(model, guide, x, epochs=recorder["epochs"], batch_size=len(x), lr=1e-2, progress=False)
    found = pyrovae.evaluate(model, guide, x, num_samples=1000, seed=recorder["seed"], progress=False)
    eigenvalues = torch.linalg.eigvalsh(x.mT @ x / len(x)).flip(0)
    kept, noise = eigenvalues[: recorder["latent"]], eigenvalues[recorder["latent"] :].mean()
    D = x.shape[1]
    rest = (D - recorder["latent"]) * noise.log() + D * math.log(2 * math.pi) + D
    elbo = found.mean_elbo
    lines.append(Line(f"{name}: ELBO", elbo.value, float(-(kept.log().sum() + rest) / 2), mc_se=elbo.mc_se))
recorder.write(lines)
