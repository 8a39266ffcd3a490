"""Every pair in models/, found by being there, under every guide that it takes and with every class of its other options."""

import pytest
import torch
from torch import nn

import pyrovae
from pyrovae import load
from pyrovae.pair.structure import inspect_pair as look

DIM = 6
GUIDES = (
    pyrovae.guides.ExactPosterior,
    pyrovae.guides.AmortisedCategorical,
    pyrovae.guides.LinearGaussian,
    pyrovae.guides.MeanField,
    pyrovae.guides.FullCovariance,
    pyrovae.guides.LowRank,
    pyrovae.guides.Mixture,
    pyrovae.guides.IAF,
    pyrovae.guides.AffineCoupling,
    pyrovae.guides.NeuralSpline,
)


def variants():
    """Every pair with every guide that its latent takes, and with every class of its other options."""
    for name in pyrovae.available():
        pair = load(name)
        yield name, {}
        latents = look(*pair(DIM), points(name), scored=False).latents
        latent = next((latent for latent in latents if not latent.summed_out), None)
        for guide in getattr(pair.module, "GUIDES", ()):  # a file's own, where its latents take no other
            yield name, {"guide": guide}
        for guide in GUIDES if latent and "guide" in pair.options and not hasattr(pair.module, "GUIDES") else ():
            fits = (guide is pyrovae.guides.AmortisedCategorical) == (latent.classes is not None)
            fits = fits and not (
                guide is pyrovae.guides.LinearGaussian and "hidden" in pair.options
            )  # it has no hidden layers
            exact = guide is pyrovae.guides.ExactPosterior and hasattr(pair(DIM)[0], "posterior")
            if exact or (fits and guide is not pyrovae.guides.ExactPosterior):
                yield name, {"guide": guide}
        if "covariance" in pair.options:
            yield from (
                (name, {"covariance": c})
                for c in (pyrovae.likelihoods.Diagonal, pyrovae.likelihoods.Spherical, pyrovae.likelihoods.Tied)
            )
        if "likelihood" in pair.options:
            for likelihood in (
                pyrovae.likelihoods.Normal(),
                pyrovae.likelihoods.FixedNormal(0.3),
                pyrovae.likelihoods.PixelNormal(),
                pyrovae.likelihoods.Bernoulli(),
            ):
                yield name, {"likelihood": likelihood}


def points(name, options=None, count=24, dtype=torch.float32):
    """Points of the kind that the pair is for."""
    x = torch.rand(count, DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    binary = "bernoulli" in name or isinstance((options or {}).get("likelihood"), pyrovae.likelihoods.Bernoulli)
    return x.round() if binary else x


SMALLER = {
    "diffusion": {"steps": 3, "width": 16}
}  # the least that has all there is to it, where the default takes long


def build(name, options, dtype=torch.float32):
    pair = load(name)(DIM, **SMALLER.get(name, {}), **options)
    for half in pair:
        if isinstance(half, nn.Module):
            half.to(dtype)
    return pair


def label(value):
    if isinstance(value, dict):
        return ",".join(f"{k}={getattr(v, '__name__', type(v).__name__)}" for k, v in value.items()) or "default"
    return None


CASES = list(variants())
# A flow's steps take seconds: the contract holds every pair under every guide, and of these the vae's are trained.
SLOW = (
    pyrovae.guides.LowRank,
    pyrovae.guides.Mixture,
    pyrovae.guides.IAF,
    pyrovae.guides.AffineCoupling,
    pyrovae.guides.NeuralSpline,
)
# A pair whose model says that it has no density is trained by a loss, and has no weights for the contract to be about.
SCORED = [(name, options) for name, options in CASES if not hasattr(load(name)(DIM)[0], "no_density")]
TRAINED = [(name, options) for name, options in SCORED if options.get("guide") not in SLOW or name == "vae"]

# Options are for the long run, but for one of each kind of guide.
QUICK = ("default", "guide=MeanField", "guide=Mixture", "guide=AmortisedCategorical", "guide=Soft")


def long_run(options):
    """The mark of those that `pytest` alone leaves out."""
    return [] if label(options) in QUICK else [pytest.mark.slow]
