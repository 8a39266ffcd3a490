"""Posterior collapse has a threshold: with σ² fixed, a latent of the linear VAE is used exactly if its eigenvalue is above σ².

At the optimum the KL of latent j, averaged over the data, is ½ ln(λ_j/σ²), or 0 where λ_j ≤ σ². λ are the eigenvalues of the data's
covariance, the largest first. Training begins at random weights, not at the closed form.
"""

import math

import pyro
import torch
from linear_vae import standardised
from record import Line, Recorder

import pyrovae

USED = 0.01  # nats: a latent with a smaller KL counts as collapsed

recorder = Recorder(
    "collapse",
    "Posterior collapse in the linear VAE",
    "Lucas, Tucker, Grosse & Norouzi (2019), Don't blame the ELBO! A linear VAE perspective on posterior collapse",
    "nats, or a number of latents",
    "wine, columns of variance 1; σ² fixed; trained on all points by SVI from random weights; the published value is the closed form",
    latent=6,
    epochs=10_000,
    seed=0,
)


def threshold(noise):
    """The KL of each latent, the largest first, beside ½ ln(λ/σ²)."""
    x, eigenvalues = standardised("wine")
    model, guide = pyrovae.load("linear_vae")(x.shape[1], latent=recorder["latent"], sigma=math.sqrt(noise))
    model, guide = model.double(), guide.double()
    model.initialised.fill_(True)  # weights are random and stay so
    pyro.set_rng_seed(recorder["seed"])
    settings = {"epochs": recorder["epochs"], "batch_size": len(x), "lr": 3e-2, "seed": recorder["seed"]}
    pyrovae.fit(model, guide, x, **settings, progress=False, on_epoch=recorder.check_budget)
    with torch.no_grad():
        q = guide.posterior(x).base_dist
        kl = ((q.loc.square() + q.scale.square() - 1) / 2 - q.scale.log()).mean(0).sort(descending=True).values
    known = [max(0.0, math.log(value / noise) / 2) for value in eigenvalues[: len(kl)].tolist()]
    above = sum(value > noise for value in eigenvalues[: len(kl)].tolist())
    yield Line(f"σ² = {noise:g}: latents in use", float((kl > USED).sum()), above, points=len(x))
    for place, (ours, theory) in enumerate(zip(kl.tolist(), known, strict=True)):
        quantity = f"σ² = {noise:g}, λ = {eigenvalues[place]:.3f}: KL"
        note = "SVI ends near the optimum; latents of nearly equal eigenvalues share what they know"
        yield Line(quantity, ours, theory, note=note, points=len(x), at=(noise, float(eigenvalues[place])))


if __name__ == "__main__":
    recorder.run([(threshold, noise) for noise in (0.6, 1.0, 2.0)])
