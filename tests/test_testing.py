"""check_pair passes a sound pair and says what is wrong with each of many broken ones."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

import pyrovae
from pyrovae import InvalidInputError, check_pair

X = torch.linspace(-1, 1, 24).reshape(8, 3)


class Model(pyrovae.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 3)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", self.likelihood(z, x), obs=x)

    def likelihood(self, z, x):
        return dist.Normal(self.net(z), 1.0).to_event(1)


class Guide(pyrovae.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 2)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.net(x), 0.5).to_event(1))


def test_a_sound_pair_passes_and_is_left_as_it_was():
    model, guide = Model(), Guide()
    before = [value.clone() for value in [*model.parameters(), *guide.parameters()]]
    state = torch.get_rng_state()
    check_pair(model, guide, X)
    assert torch.equal(torch.get_rng_state(), state)
    after = [*model.parameters(), *guide.parameters()]
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, after, strict=True))


class TwoLatents(Model):
    def likelihood(self, z, x):
        pyro.sample("u", dist.Normal(0.0, 1.0))
        return super().likelihood(z, x)


class GlobalLatent(Guide):
    def forward(self, x):
        pyro.sample("w", dist.Normal(torch.zeros(()), 1.0))
        super().forward(x)


class BatchStatistics(Model):
    def likelihood(self, z, x):
        loc = self.net(z)
        return dist.Normal(loc - loc.mean(dim=-2, keepdim=True), 1.0).to_event(1)


class AISResult(Model):
    def forward(self, x):
        with poutine.scale(scale=0.5):
            super().forward(x)


class Detached(Model):
    def likelihood(self, z, x):
        return dist.Normal(self.net(z).detach(), 1.0).to_event(1)


class HiddenNetwork(Model):
    """Pyro sees the parameters of attributes: a network in a list is none."""

    def __init__(self):
        super().__init__()
        del self.net
        self.nets = [nn.Linear(2, 3)]
        self.inner = nn.Module()
        self.inner.net = self.nets[0]

    def likelihood(self, z, x):
        return dist.Normal(self.nets[0](z), 1.0).to_event(1)


class WrongConstant(Model):
    def log_prob(self, x):
        covariance = self.net.weight @ self.net.weight.mT + torch.eye(3)
        return dist.MultivariateNormal(self.net.bias, covariance).log_prob(x) - 1.5 * 1.8379  # log 2π once more


class Forgetful(Model):
    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", self.likelihood(z, x))


@pytest.mark.parametrize(
    ("model", "guide", "message"),
    [
        (TwoLatents, Guide, "Latent 'u' is in the model but not in the guide"),
        (Model, GlobalLatent, r"'w' of the guide is outside plate\(\"data\"\)"),
        (Forgetful, Guide, "Latent 'x' is in the model but not in the guide.*give it obs="),
        (BatchStatistics, Guide, "density of a point at site 'x' changes with the other points"),
        (AISResult, Guide, "is scaled"),
        (Detached, Guide, "No gradient reaches parameter net.weight"),
        (HiddenNetwork, Guide, "Parameter inner.net.weight of a HiddenNetwork is never seen by Pyro"),
        (WrongConstant, Guide, "nats a point above model.log_prob"),
    ],
)
def test_broken_pairs(model, guide, message):
    with pytest.raises(InvalidInputError, match=message):
        check_pair(model(), guide(), X)


def test_one_name_for_two_parameters():
    model, guide = pyro.nn.PyroModule(), pyro.nn.PyroModule()
    model.net, guide.net = nn.Linear(2, 3), nn.Linear(3, 2)
    model.forward = lambda x: Model.forward(model, x)
    model.likelihood = lambda z, x: Model.likelihood(model, z, x)
    guide.forward = lambda x: Guide.forward(guide, x)
    with pytest.raises(InvalidInputError, match="Model and guide both call a parameter 'net.*SVI would train only one"):
        check_pair(model, guide, X)


def test_objective_and_weights_that_see_different_densities(monkeypatch):
    original = pyro.infer.TraceMeanField_ELBO.loss
    monkeypatch.setattr(pyro.infer.TraceMeanField_ELBO, "loss", lambda *a: original(*a) - len(X) * 2.7)
    with pytest.raises(InvalidInputError, match="training and evidence do not see the same densities"):
        check_pair(Model(), Guide(), X)


def test_too_few_points():
    with pytest.raises(InvalidInputError, match="at least 4 points"):
        check_pair(Model(), Guide(), X[:3])


def test_sound_pairs_of_other_shapes_pass():
    enumerate_ = {"enumerate": "parallel"}

    class Summed(pyrovae.Module):
        """A latent that the guide leaves out."""

        def __init__(self):
            super().__init__()
            self.loc = nn.Parameter(torch.randn(2, 3))

        def forward(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Categorical(torch.ones(2) / 2), infer=enumerate_)
                pyro.sample("x", dist.Normal(self.loc[z], 1.0).to_event(1), obs=x)

    class Plated(pyrovae.Module):
        """Pixels in a plate of their own."""

        def __init__(self):
            super().__init__()
            self.loc = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            with pyro.plate("data", len(x), dim=-2):
                z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0))
                with pyro.plate("pixels", 3, dim=-1):
                    pyro.sample("x", dist.Normal(self.loc + z, 1.0), obs=x)

    class PlatedGuide(pyrovae.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(3, 1)

        def forward(self, x):
            with pyro.plate("data", len(x), dim=-2):
                pyro.sample("z", dist.Normal(self.net(x), 0.5))

    check_pair(Summed(), lambda x: None, X)
    check_pair(Plated(), PlatedGuide(), X)


def test_a_guide_whose_points_see_one_another():
    class Centred(Guide):
        def forward(self, x):
            super().forward(x - x.mean(0))

    with pytest.raises(InvalidInputError, match=r"at site 'q\(z\)' changes with the other points"):
        check_pair(Model(), Centred(), X)


def test_batch_statistics_are_found_whatever_the_number_of_points():
    """A layer of as many rows as there are points is no parameter for each point."""

    class Centred(Guide):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2))

        def forward(self, x):
            super().forward(x - x.mean(0))

    for count in (4, 6, 8):
        with pytest.raises(InvalidInputError, match="changes with the other points"):
            check_pair(Model(), Centred(), X[:count])


def test_a_model_that_observes_x_in_parts_passes():
    class Parts(Model):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                loc = self.net(z)
                pyro.sample("left", dist.Normal(loc[..., :1], 1.0).to_event(1), obs=x[:, :1])
                pyro.sample("right", dist.Normal(loc[..., 1:], 1.0).to_event(1), obs=x[:, 1:])

    check_pair(Parts(), Guide(), X)
