"""Mixture of Bernoullis: z ~ Cat(π), x|z ~ Π_d Bernoulli(p_zd).

The Gaussian mixture with another family of components; log p(x) and p(z|x) are exact.
"""

from pyrovae.models.gmm import Mixture, mixture_guide

import pyrovae

TRAINING_DEFAULTS = {"steps": 300, "batch_size": 2048, "lr": 5e-2}


def pair(dim: int, components: int = 10, guide: type = pyrovae.guides.ExactPosterior) -> tuple[Mixture, object]:
    """`guide` is ExactPosterior or AmortisedCategorical."""
    model = Mixture(pyrovae.likelihoods.IndependentComponents(components, dim, pyrovae.likelihoods.Bernoulli()))
    return model, mixture_guide(guide, model, dim)
