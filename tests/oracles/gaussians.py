"""z ~ N(0, I), x|z ~ N(Wz, σ²I) under guides N(m(x), D) that are wrong on purpose: every quantity has a closed form."""

import math

import pyro
import pyro.distributions as dist
import torch


class Wrong:
    """m(x) is the exact posterior mean and D diagonal; P is the posterior's precision. Double precision."""

    def __init__(self, W, sigma, variances):
        self.W, self.sigma, self.D = W, sigma, variances
        k = W.shape[1]
        self.P = torch.eye(k).to(W) + W.mT @ W / sigma**2
        self.root = torch.linalg.cholesky(self.P)

    def model(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.W.shape[1]), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.W.mT, self.sigma).to_event(1), obs=x)

    def guide(self, x):
        loc = torch.cholesky_solve(self.W.mT @ x.mT / self.sigma**2, self.root).mT
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, self.D.sqrt()).to_event(1))

    @property
    def pair(self):
        return self.model, self.guide

    def draw(self, count):
        z = torch.randn(count, self.W.shape[1]).to(self.W)
        return z @ self.W.mT + self.sigma * torch.randn(count, len(self.W)).to(self.W)

    def log_prob(self, x):
        covariance = self.W @ self.W.mT + self.sigma**2 * torch.eye(len(self.W)).to(self.W)
        return dist.MultivariateNormal(torch.zeros(len(self.W)).to(self.W), covariance).log_prob(x)

    @property
    def gap(self):
        """KL(q ‖ p(z|x))."""
        PD = self.P * self.D
        return 0.5 * float(PD.diagonal().sum() - len(PD) - torch.linalg.slogdet(PD)[1])

    def moment(self, m):
        """E_q (p(z|x) / q(z))^m, infinite where m P − (m − 1) D⁻¹ is not positive definite."""
        inner = m * self.P - (m - 1) * torch.diag(1 / self.D)
        if torch.linalg.eigvalsh(inner)[0] <= 0:
            return math.inf
        return math.exp(0.5 * float(m * torch.logdet(self.P) + (m - 1) * self.D.log().sum() - torch.logdet(inner)))

    @property
    def tail(self):
        """The Pareto index of the weights, 1 − λ_min(PD), where that is above 0."""
        root = self.D.sqrt()
        return 1 - float(torch.linalg.eigvalsh(root[:, None] * self.P * root)[0])


def random_wrong(dim=5, latent=3, sigma=0.8, ratio=1.0):
    """`ratio` times the variances of the best diagonal guide, 1/P_ii."""
    W = torch.randn(dim, latent).double() / dim**0.5
    P = torch.eye(latent).double() + W.mT @ W / sigma**2
    return Wrong(W, sigma, ratio / P.diagonal())
