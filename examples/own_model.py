"""Sparse coding: z ~ Laplace(0, 1), x|z ~ N(Wz + μ, σ²I): a few of the directions explain each x (Olshausen & Field 1996)."""

import pyro
import pyro.distributions as dist
import torch

import pyrovae

TRAINING_DEFAULTS = {"steps": 3600, "batch_size": 128, "lr": 5e-3}  # how it likes to be trained; may be left out


class SparseCoding(pyrovae.Module):
    def __init__(self, dim, latent):
        super().__init__()
        self.W, self.mu = torch.nn.Parameter(torch.randn(dim, latent)), torch.nn.Parameter(torch.zeros(dim))
        self.log_sigma = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Laplace(x.new_zeros(self.W.shape[1]), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.W.mT + self.mu, self.log_sigma.exp()).to_event(1), obs=x)


def pair(dim, latent=16, guide=pyrovae.guides.FullCovariance):
    return SparseCoding(dim, latent), guide(dim, latent)
