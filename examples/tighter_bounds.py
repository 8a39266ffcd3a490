"""Show that a tighter bound is not better for the encoder, unless its gradient is another one.

The signal-to-noise ratio |E g| / sd(g) of the guide's gradient falls as 1/√K for IWAE (Rainforth et al. 2018). For
the same bound by DReG it grows as √K (Tucker et al. 2019).
"""

import pyro
import pyro.distributions as dist
import torch

import pyrovae
from pyrovae.pair.structure import inspect_pair

COUNT, CALLS = 1000, 2  # gradients at once, each with a b of its own, and how often
x = torch.full((COUNT, 1), 1.5).double()
b = torch.full((COUNT, 1), 0.3).double().requires_grad_()


def model(x):  # z ~ N(0, 1), x|z ~ N(z, 1), so that z|x ~ N(x/2, 1/2)
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def guide(x):  # b = 0 would be best
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(0.5 * x + b, (2 / 3) ** 0.5).to_event(1))


def gradients(kind, num_samples):
    losses = (kind(num_samples).batch(model, guide, x, structure).loss for _ in range(CALLS))
    return torch.cat([torch.autograd.grad(loss, b)[0].flatten() for loss in losses])


torch.manual_seed(0)
structure, sample_counts = inspect_pair(model, guide, x), (1, 10, 100, 1000)
ratios = {"IWAE": [], "DReG": []}
for num_samples in sample_counts:
    estimates = {
        kind.__name__: gradients(kind, num_samples) for kind in (pyrovae.objectives.IWAE, pyrovae.objectives.DReG)
    }
    mean = estimates["DReG"].mean()  # of both, and IWAE's own is lost in its noise
    for name, every in estimates.items():
        assert abs(every.mean() - mean) < 5 * (every.var() + estimates["DReG"].var()).sqrt() / len(every) ** 0.5
        ratios[name].append(float(mean.abs() / every.std()))

slopes = {}
for name, column in ratios.items():
    steps = torch.tensor([sample_counts[1:], column[1:]], dtype=torch.float64).log()
    slopes[name] = float(torch.cov(steps)[0, 1] / torch.cov(steps)[0, 0])
    ratios_text = ", ".join(
        f"{ratio:.4f} at K = {num_samples}" for num_samples, ratio in zip(sample_counts, column, strict=True)
    )
    print(f"{name}: {ratios_text}; slope {slopes[name]:+.2f} of the logarithms from K = 10 on")

assert abs(slopes["IWAE"] + 0.5) < 0.1
assert abs(slopes["DReG"] - 0.5) < 0.1
