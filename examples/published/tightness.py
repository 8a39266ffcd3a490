"""How loose the K-sample bound is: K (log p − L_K) → χ²/2, and the tail of the weights, against closed forms.

The posterior is N(0, 1) and the guide is N(0, s²). So 1 + χ² = s² / √(2s² − 1) for s² > ½. The Pareto tail index of the weights is
1 − s². Every point is the same, so that the mean over points is a mean over repeats.
"""

import math

import pyro
import pyro.distributions as dist
import torch
from record import Line, Recorder

import pyrovae

recorder = Recorder(
    "tightness",
    "How loose the K-sample bound is",
    "Domke & Sheldon (2018), Importance weighting and variational inference; Vehtari et al. (2024), Pareto smoothed importance sampling",
    "see each row",
    "posterior N(0, 1), guide N(0, s²); repeats are equal points; the published value is the closed form",
    num_samples=1000,
    repeats=5000,
    tail_samples=50_000,
    tail_repeats=50,
    seed=0,
)


def pair(s):
    """p(z|x) = N(0, 1) and q(z|x) = N(0, s²)."""

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(x.new_zeros(1), 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(len(x)), s))

    return model, guide


lines = []
for variance in (0.6, 0.7, 0.8, 0.9):
    model, guide = pair(math.sqrt(variance))
    K, x = recorder["num_samples"], torch.zeros(recorder["repeats"], 1).double()
    found = pyrovae.evaluate(model, guide, x, num_samples=K, seed=recorder["seed"], progress=False)
    error = -math.log(math.sqrt(2 * math.pi)) - found.log_likelihood  # log p(x) is that of N(0 | 0, 1)
    error = error + torch.expm1(-error)  # p̂/p − 1 has mean 0 and most of the noise
    chi_square = variance / math.sqrt(2 * variance - 1) - 1
    noise = K * float(error.std()) / math.sqrt(len(error))
    lines.append(
        Line(f"s² = {variance:g}: K (log p − L_K), K = {K}", K * float(error.mean()), chi_square / 2, mc_se=noise)
    )
for variance in (0.3, 0.5, 0.7):
    model, guide = pair(math.sqrt(variance))
    x = torch.zeros(recorder["tail_repeats"], 1).double()
    tail = pyrovae.evaluate(
        model, guide, x, num_samples=recorder["tail_samples"], seed=recorder["seed"], progress=False
    ).pareto_k
    noise = float(tail.std()) / math.sqrt(len(tail))
    lines.append(
        Line(
            f"s² = {variance:g}: Pareto k̂ of {recorder['tail_samples']} draws",
            float(tail.mean()),
            1 - variance,
            mc_se=noise,
            note="k̂ of finitely many draws lies below the index of the tail, whose start a logarithm bends",
        )
    )
recorder.write(lines)
