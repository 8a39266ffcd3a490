"""The files that `pyrovae new` writes. NAME stands for the class. A test holds both to `check_pair`."""

MODEL = '''"""NAME: z ~ N(0, I), x|z ~ N(f(z), σ²I), f a network."""  # `pyrovae models` shows this line

import pyro
import pyro.distributions as dist
import torch

import pyrovae

TRAINING_DEFAULTS = {"steps": 3600, "batch_size": 128, "lr": 2e-3}


class NAME(pyrovae.Module):
    def __init__(self, dim, latent, hidden):
        super().__init__()
        self.latent = latent
        self.decoder = pyrovae.MLP(latent, *hidden, dim)
        self.log_sigma = torch.nn.Parameter(torch.tensor(-1.0))

    def forward(self, x):  # x: (N, dim)
        with pyro.plate("data", len(x)):
            # Constants come from x, so that they have its type and device.
            prior = dist.Normal(x.new_zeros(self.latent), 1.0).to_event(1)
            z = pyro.sample("z", prior)
            mean = self.decoder(z)
            pyro.sample("x", dist.Normal(mean, self.log_sigma.exp()).to_event(1), obs=x)


def pair(dim, latent=8, hidden=(200,), guide=pyrovae.guides.MeanField):
    """Return (model, guide) for x of `dim` numbers. The other parameters are options: --set latent=4."""
    return NAME(dim, latent, hidden), guide(dim, latent)
'''

GUIDE = '''"""NAME: q(z|x) = Π_i Laplace(μ_i(x), b_i(x)), with one network of x for μ and b."""

import pyro.distributions as dist

import pyrovae


class NAME(pyrovae.guides.Amortised):
    @staticmethod
    def num_outputs(latent, **sizes):
        """How many numbers the network returns for a latent of `latent` numbers."""
        return 2 * latent

    def distribution(self, outputs):
        """q(z|x) from the network's outputs (..., 2 * latent)."""
        loc, rho = outputs.chunk(2, dim=-1)
        return dist.Laplace(loc, pyrovae.guides.positive(rho)).to_event(1)
'''
