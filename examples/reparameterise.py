"""Compare two unbiased gradients of E (z − c)², z ~ N(μ, s²), by μ, with the closed forms of their variances.

With d = μ − c, the variance is d⁴/s² + 14d² + 15s² for the score function, and 4s² for the path through the draw.
"""

import pyro
import pyro.distributions as dist
import torch

import pyrovae

N, S, C = 200_000, 0.5, 1.0  # as many estimates at once as there are points, each with a μ of its own
x = torch.zeros(N, 1).double()


def model(x):  # the prior is the guide, held still: log p(x, z) − log q(z|x) = −(z − c)²
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(mu.detach(), S))
        pyro.sample("x", dist.Normal(0.0, (2 * torch.pi) ** -0.5).expand([1]).to_event(1), obs=x)  # density 1 at 0
        pyro.factor("cost", -((z - C) ** 2))


def guide(x, reparameterised=True):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(mu, S).has_rsample_(reparameterised))


torch.manual_seed(0)
for d in (0.0, 1.0, 3.0):
    mu = torch.full((N,), C + d).double().requires_grad_()
    score = pyro.infer.Trace_ELBO().differentiable_loss(model, lambda x: guide(x, False), x)
    path = pyrovae.objectives.STL(1).differentiable_loss(model, guide, x)
    (by_score,), (by_path,) = torch.autograd.grad(score, mu), torch.autograd.grad(path, mu)

    ratio = float(by_score.var() / by_path.var())
    expected = (d**4 / S**2 + 14 * d**2 + 15 * S**2) / (4 * S**2)
    print(
        f"d = {d}: means {float(by_score.mean()):.3f}, {float(by_path.mean()):.3f} ({2 * d:.0f} exactly); variances "
        f"{float(by_score.var()):.3f}, {float(by_path.var()):.3f}; ratio {ratio:.2f} ({expected:.2f} exactly)"
    )
    for gradient in (by_score, by_path):
        assert abs(gradient.mean() - 2 * d) < 5 * gradient.std() / N**0.5
    # a variance's standard error, from fourth moments
    errors = [float((g - g.mean()).square().std() / N**0.5 / g.var()) for g in (by_score, by_path)]
    assert abs(ratio / expected - 1) < 5 * (errors[0] + errors[1])
