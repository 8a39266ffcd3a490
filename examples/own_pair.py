"""Factor analysis: z ~ N(0, I), x|z ~ N(Wz + μ, diag ψ).

A model of one's own in a file of one's own: `pyrovae compare --models ppca,examples/own_pair.py` sets it beside ours.
"""

import pyro
import pyro.distributions as dist
import torch
from torch import nn

import pyrovae

RECIPE = {"steps": 600, "batch_size": 2048, "lr": 2e-2}  # how it likes to be trained; may be left out


class FactorAnalysis(pyrovae.Module):
    def __init__(self, dim, latent):
        super().__init__()
        self.W = nn.Parameter(0.1 * torch.randn(dim, latent))
        self.mu = nn.Parameter(torch.full((dim,), 0.5))
        self.log_psi = nn.Parameter(torch.full((dim,), -3.0))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.W.shape[1]), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.W.mT + self.mu, (0.5 * self.log_psi).exp()).to_event(1), obs=x)

    def log_prob(self, x):  # optional: with it, the table shows the exact value
        return dist.LowRankMultivariateNormal(self.mu, self.W, self.log_psi.exp()).log_prob(x)


def pair(dim, latent=8):
    return FactorAnalysis(dim, latent), pyrovae.LinearGaussian(dim, latent)


if __name__ == "__main__":
    torch.manual_seed(0)
    data = pyrovae.load_data("digits")
    model, guide = pair(data.dim)
    pyrovae.check_pair(model, guide, data.train[:16])
    pyrovae.fit(model, guide, data.train, epochs=600, batch_size=None, lr=2e-2)
    evidence = pyrovae.evaluate(model, guide, data.test)
    exact, elbo = evidence.mean_exact_log_likelihood.value, evidence.mean_elbo.value
    print(f"log p(x) {exact:.3f} exact, ELBO {elbo:.3f}: the posterior is in the guide's family")
    assert 0 <= exact - elbo < 1.0
    assert abs(evidence.mean_log_likelihood.value - exact) < 6 * evidence.mean_log_likelihood.mc_se + 0.05
