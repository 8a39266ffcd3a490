"""EM as an object: where it begins and stops, what it says of models that have no step; and that fit goes on from it."""

import math

import numpy as np
import pytest
import torch

import pyrovae
from pyrovae import EM, InvalidInputError, NonFiniteError, fit, load
from pyrovae.training.em import HasEMStep


class Climber:
    """A model whose log p(x) before its steps is the given list."""

    def __init__(self, values):
        self.values, self.taken = values, 0
        self.initialised = torch.tensor(False)
        self.started_from = None

    def __call__(self, x):
        raise AssertionError("EM runs no model")

    def initialise(self, x):
        self.started_from = x

    def em_step(self, x):
        self.taken += 1
        return torch.tensor(self.values[self.taken - 1])


X = torch.zeros(4, 2)


def test_stops_when_a_step_gains_less_than_tol():
    model = Climber([-10.0, -5.0, -4.0, -3.9995, -3.0])
    assert EM(tol=1e-3)(model, X) == pytest.approx([-10.0, -5.0, -4.0, -3.9995])
    assert model.taken == 4


def test_stops_after_its_steps():
    model = Climber([float(step) for step in range(10)])
    assert EM(steps=3)(model, X) == [0.0, 1.0, 2.0]
    assert model.taken == 3


def test_begins_where_the_model_stands_or_at_its_start():
    model = Climber([0.0, 0.0])
    EM()(model, X)
    assert model.started_from is X
    assert bool(model.initialised)
    model.started_from, model.taken = None, 0
    EM()(model, X)
    assert model.started_from is None

    def start(model, x):
        model.started_from = "mine"

    model = Climber([0.0, 0.0])
    EM(start=start)(model, X)
    assert model.started_from == "mine"
    assert bool(model.initialised)


def test_stops_with_a_sentence_at_nan():
    with pytest.raises(NonFiniteError, match="EM stopped at step 2: the mean log p\\(x\\) is nan"):
        EM()(Climber([0.0, math.nan]), X)


def test_models_without_a_step_are_refused():
    model, _ = load("vae")(2)
    assert not isinstance(model, HasEMStep)
    with pytest.raises(InvalidInputError, match="VAE has no em_step"):
        EM()(model, X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0.*at least 1"),
        ({"steps": 2.5}, "steps=2.5.*whole number"),
        ({"tol": -1.0}, "tol=-1.0.*at least 0"),
        ({"tol": math.nan}, "tol=nan"),
        ({"start": "k-means"}, "start='k-means'.*function"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidInputError, match=message):
        EM(**options)


def test_bad_points_are_refused():
    with pytest.raises(InvalidInputError, match="remove or impute"):
        EM()(Climber([0.0, 0.0]), torch.tensor([[0.0, math.nan], [1.0, 2.0]]))
    with pytest.raises(InvalidInputError, match=r"x\[1, 0\] is inf: remove or impute such values; 1 of 3 points"):
        EM()(load("ppca")(2)[0], torch.tensor([[0.0, 1.0], [math.inf, 2.0], [0.0, 1.0]]))
    EM()(Climber([0.0, 0.0]), torch.full((4, 2), 3e38))  # whose sum is no number, where they all are


@pytest.mark.parametrize("name", ["gmm", "ppca", "factor_analysis", "bernoulli_mixture"])
def test_every_model_with_a_step_climbs_and_fit_goes_on_from_there(name, seed):
    """Never down on real data; and SVI from EM's end stays within 0.1 nat of it, or climbs on: it is the same ELBO."""
    torch.manual_seed(seed)
    data = pyrovae.load_data("digits", "threshold" if name.startswith("bernoulli") else None)
    x = data.train[:].double()
    model, guide = load(name)(data.dim)
    model.double()
    assert isinstance(model, HasEMStep)
    trace = EM(steps=40, tol=1e-6)(model, x)
    assert np.diff(trace).min() > -1e-9
    end = model.log_prob(x).mean().item()
    assert end > trace[-1] - 1e-9
    fit(model, guide, x, epochs=30, batch_size=None, lr=1e-3, seed=seed)
    assert model.log_prob(x).mean().item() > end - 0.1


@pytest.mark.slow
def test_em_is_the_judge_of_svi_for_mixtures_of_bernoullis(seed):
    """From one k-means start, SVI by the pair's recipe ends within 0.1 nat per point of EM run to convergence, or above."""
    x = pyrovae.load_data("digits", "threshold").train
    model, guide = load("bernoulli_mixture")(64)
    torch.manual_seed(seed)
    model.initialise(x)
    judge, _ = load("bernoulli_mixture")(64)
    judge.load_state_dict(model.state_dict())
    EM(steps=300, tol=1e-7)(judge.double(), x.double())
    recipe = load("bernoulli_mixture").recipe
    fit(model, guide, x, epochs=recipe["steps"], batch_size=recipe["batch_size"], lr=recipe["lr"], seed=seed)
    assert model.log_prob(x).mean().item() > judge.log_prob(x.double()).mean().item() - 0.1


def test_em_step_of_bernoullis_is_the_weighted_mean(seed):
    """Every p_k is the mean of x weighted by p(z=k|x), every π_k the mean weight: by enumeration in numpy."""
    torch.manual_seed(seed)
    x = (torch.rand(60, 5) < 0.4).double()
    model, _ = load("bernoulli_mixture")(5, components=3)
    model.double().initialise(x)
    p, share = model.components.family().mean.detach().numpy(), model.logits.detach().softmax(-1).numpy()
    joint = share * np.prod(np.where(x.numpy()[:, None] == 1, p, 1 - p), axis=-1)
    weight = joint / joint.sum(axis=1, keepdims=True)
    assert model.em_step(x).item() == pytest.approx(np.log(joint.sum(axis=1)).mean(), abs=1e-10)
    expected = weight.T @ x.numpy() / weight.sum(axis=0)[:, None]
    np.testing.assert_allclose(
        model.components.family().mean.detach().numpy(), expected.clip(1e-6, 1 - 1e-6), atol=1e-9
    )
    np.testing.assert_allclose(model.logits.detach().softmax(-1).numpy(), weight.mean(axis=0), atol=1e-10)


@pytest.mark.parametrize(
    "likelihood",
    [pyrovae.likelihoods.FixedNormal(0.3), pyrovae.likelihoods.Normal(), pyrovae.likelihoods.ImageNormal()],
)
def test_mixtures_of_other_likelihoods_climb_too(likelihood, seed):
    torch.manual_seed(seed)
    x = pyrovae.load_data("digits").train[:300].double()
    from pyrovae.models.gmm import Mixture

    def at_random(model, x):
        model.components.start(x, torch.eye(4).double()[torch.randint(4, (len(x),))])

    model = Mixture(pyrovae.likelihoods.IndependentComponents(4, 64, likelihood)).double()
    trace = EM(steps=20, tol=0.0, start=at_random)(model, x)
    assert np.diff(trace).min() > -1e-9
    assert trace[-1] > trace[0] + 0.01


def test_a_likelihood_that_knows_no_maximum_is_refused():
    class Laplace(pyrovae.likelihoods.Likelihood):
        def forward(self, eta):
            return pyrovae.likelihoods.FixedNormal(0.3)(eta)

        def initial_outputs(self, mean, variance):
            return mean

    from pyrovae.models.gmm import Mixture

    model = Mixture(pyrovae.likelihoods.IndependentComponents(2, 3, Laplace()))
    with pytest.raises(InvalidInputError, match="Laplace does not say where its likelihood is highest"):
        EM()(model, torch.randn(20, 3))
