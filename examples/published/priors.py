"""Priors of one VAE: N(0, I) against a mixture of Gaussians, a VampPrior and a flow, on the digits of scikit-learn.

Networks, steps, learning rate and seeds are the same. Each prior is trained from several seeds. The difference to N(0, I) is paired by
image, and its error counts images and trainings.
"""

import functools
import math

import torch
from record import Line, Recorder

import pyrovae
from pyrovae import priors
from pyrovae.statistics.trainings import difference_over_trainings, mean_over_trainings

recorder = Recorder(
    "priors",
    "Learned priors against N(0, I)",
    "Tomczak & Welling (2018), VAE with a VampPrior; Chen et al. (2017), Variational lossy autoencoder: a direction, no number",
    "nats an image",
    "one VAE, 64-100-100-latents and its mirror; the same steps, rate and seeds for each prior; all held-out images",
    differences="the digits of scikit-learn in place of MNIST, 1 where a pixel has at least half of the grey scale",
    latent=10,
    count=50,
    epochs=100,
    seeds=3,
)
FAMILIES = {
    "N(0, I)": priors.StandardNormal,
    "a mixture": lambda: priors.MixtureOfGaussians(recorder["count"]),
    "a VampPrior": lambda: priors.VampPrior(recorder["count"]),
    "a flow": priors.FlowPrior,
}


@functools.cache
def evidence(family):
    """log p(x) of each held-out image and its error, (seeds, N), the ELBO in the same form, and what of log p̂(x) is reliable."""
    data = pyrovae.load_data("digits", transform="threshold")
    found = []
    for seed in range(recorder["seeds"]):
        recorder.check_budget()
        torch.manual_seed(seed)
        model, guide = pyrovae.load("vae")(
            data.dim,
            latent=recorder["latent"],
            hidden=(100, 100),
            likelihood=pyrovae.likelihoods.Bernoulli(),
            prior=FAMILIES[family](),
        )
        settings = {"epochs": recorder["epochs"], "batch_size": 128, "lr": 2e-3, "seed": seed}
        pyrovae.fit(model, guide, data.train[:], **settings, progress=False, on_epoch=recorder.check_budget)
        found.append(pyrovae.evaluate(model, guide, data.test, seed=seed, progress=False))
    names = ("log_likelihood", "log_likelihood_se", "elbo", "elbo_se")
    values = {name: torch.stack([getattr(each, name) for each in found]) for name in names}
    return values, {each.reliability_message for each in found}


def prior(family):
    """log p(x), its difference to N(0, I), and how loose the ELBO is."""
    values, messages = evidence(family)
    base, _ = evidence("N(0, I)")
    points = values["elbo"].shape[1]
    log_p = mean_over_trainings(values["log_likelihood"], values["log_likelihood_se"])
    elbo = mean_over_trainings(values["elbo"], values["elbo_se"])
    trainings = f"{recorder['seeds']} trainings; the data error counts images and trainings"
    name = f"the prior is {family}"
    for quantity, found, note in (("log p(x)", log_p, " ".join(sorted(messages))), ("ELBO", elbo, trainings)):
        loose = {}
        if quantity == "ELBO":
            loose = {"bound_error": log_p.value - elbo.value, "bound_error_se": math.hypot(log_p.mc_se, elbo.mc_se)}
        data_se = math.hypot(found.data_se, found.train_se)
        yield Line(f"{name}: {quantity}", found.value, None, found.mc_se, data_se, note, points=points, **loose)
    if family != "N(0, I)":
        pairs = (
            values["log_likelihood"],
            values["log_likelihood_se"],
            base["log_likelihood"],
            base["log_likelihood_se"],
        )
        gain = difference_over_trainings(*pairs)
        data_se = math.hypot(gain.data_se, gain.train_se)
        yield Line(f"{name}: gain over N(0, I)", gain.value, None, gain.mc_se, data_se, trainings, points=points)


if __name__ == "__main__":
    recorder.run([(prior, family) for family in FAMILIES])
