"""Linear VAE: at its optimum the ELBO is the largest log p(x) of PPCA, and a latent collapses where its eigenvalue is at most σ².

The closed form of PPCA (Tipping & Bishop 1999), with σ² the mean of the discarded eigenvalues λ of the data's covariance:
log p = −N/2 [Σ_{j≤k} ln λ_j + (D − k) ln σ² + D ln 2π + D].
"""

import math

import torch
from record import Line, Recorder
from sklearn import datasets

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


def standardised(name):
    """The data with columns of mean 0 and variance 1, (N, D), and the eigenvalues of their covariance, the largest first."""
    x = torch.as_tensor(getattr(datasets, f"load_{name}")().data).double()
    x = (x - x.mean(0)) / x.std(0, correction=0)
    return x, torch.linalg.eigvalsh(x.mT @ x / len(x)).flip(0)


def elbo(name):
    """The ELBO of the trained pair, and the largest log p(x) of PPCA."""
    x, eigenvalues = standardised(name)
    model, guide = pyrovae.load("linear_vae")(x.shape[1], latent=recorder["latent"])
    model, guide = model.double(), guide.double()
    pyrovae.fit(
        model,
        guide,
        x,
        epochs=recorder["epochs"],
        batch_size=len(x),
        lr=1e-2,
        progress=False,
        on_epoch=recorder.check_budget,
    )
    found = pyrovae.evaluate(model, guide, x, num_samples=1000, seed=recorder["seed"], progress=False)
    kept, noise = eigenvalues[: recorder["latent"]], eigenvalues[recorder["latent"] :].mean()
    D = x.shape[1]
    rest = (D - recorder["latent"]) * noise.log() + D * math.log(2 * math.pi) + D
    exact = found.mean_exact_log_likelihood.value
    yield Line(
        f"{name}: ELBO",
        found.mean_elbo.value,
        float(-(kept.log().sum() + rest) / 2),
        mc_se=found.mean_elbo.mc_se,
        points=len(x),
        lower=exact,
        upper=exact,
        bound_error=exact - found.mean_elbo.value,
        bound_error_se=found.mean_elbo.mc_se,
    )


if __name__ == "__main__":
    recorder.run([(elbo, name) for name in ("iris", "wine", "breast_cancer")])
