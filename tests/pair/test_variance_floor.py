"""Where a floor of variances binds, it is said: in how many directions of which columns."""

import pytest
import torch

import pyrovae
from pyrovae import evaluate, fit, load
from pyrovae.pair.variance_floor import floor_message


def flat(points=200):
    """Five columns, the last of which is the sum of the first two but for a thousandth."""
    x = torch.randn(points, 5).double()
    x[:, 4] = x[:, 0] + x[:, 1] + 1e-3 * x[:, 4]
    return x


def test_a_full_gaussian_says_how_many_directions_of_which_columns():
    x = flat()
    model, guide = load("gaussian")(5, floor=1e-4)
    result = fit(model.double(), guide, x, epochs=0)
    said = "Variances are at their floor in 1 of 5 directions, mostly of columns 0, 1, 4: the floor decides the density there."
    assert result.warning == said
    assert evaluate(model, guide, x, num_samples=2).metadata["variance_floor"] == said
    free, guide = load("gaussian")(5, floor=1e-9)
    assert fit(free.double(), guide, x, epochs=0).warning == ""
    assert free.log_prob(x).mean() > model.log_prob(x).mean()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gmm", {"components": 2, "covariance": pyrovae.likelihoods.Diagonal}),
        ("mixture_fa", {"components": 2, "latent": 1}),
        ("mixture_ppca", {"components": 2, "latent": 1}),
        ("factor_analysis", {"latent": 2}),
    ],
)
@pytest.mark.parametrize(("floor", "binds"), [(1e-6, False), (3.0, True)])
def test_noise_at_the_floor_is_said_of_every_family(name, options, floor, binds):
    x = torch.randn(200, 4).double()
    model, _ = load(name)(4, floor=floor, **options)
    pyrovae.EM(steps=20)(model.double(), x)
    assert bool(floor_message(model)) == binds


def test_models_without_a_floor_say_nothing():
    assert floor_message(load("ppca")(4, latent=2)[0]) == floor_message(lambda x: None) == ""
