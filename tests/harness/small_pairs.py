"""Pairs that several tests ask the same questions of."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pyrovae


class Location(pyrovae.Module):
    """x ~ N(μ, I), μ learned: the optimum is the mean, and the loss of a batch is known in closed form. It has no latent."""

    def __init__(self, dim: int = 3) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.mu, 1.0).to_event(1), obs=x)


def nothing(x: Tensor) -> None:
    """The guide of a model without latents."""


def located(loc, width=1.0):
    """z ~ N(loc, 1), x ~ N(z, 1), and a guide N((x + loc)/2, width²) with the posterior's mean."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.full((1,), loc), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal((x + loc) / 2, width).to_event(1))

    return model, guide


def angle():
    """z ~ VonMises(0, 1), x ~ N(cos z, 1), and the prior as guide."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.VonMises(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z.cos().unsqueeze(-1), 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.VonMises(torch.zeros(len(x)), 1.0))

    return model, guide
