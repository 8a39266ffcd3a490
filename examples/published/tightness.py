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
    "see each line",
    "posterior N(0, 1), guide N(0, s²); repeats are equal points; the published value is the closed form",
    num_samples=1000,
    repeats=5000,
    tail_samples=50_000,
    tail_repeats=50,
    seed=0,
)
LOG_P = -math.log(math.sqrt(2 * math.pi))  # that of N(0 | 0, 1)


def pair(variance):
    """p(z|x) = N(0, 1) and q(z|x) = N(0, s²)."""

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(x.new_zeros(1), 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(len(x)), math.sqrt(variance)))

    return model, guide


def bias(variance):
    """K (log p − L_K), for three K from the same draws."""
    x = torch.zeros(recorder["repeats"], 1).double()
    log_w = pyrovae.log_weights(*pair(variance), x, recorder["num_samples"])
    chi_square = variance / math.sqrt(2 * variance - 1) - 1
    for K in (10, 100, recorder["num_samples"]):
        error = LOG_P - pyrovae.log_likelihood(log_w.reshape(K, -1))
        error = error + torch.expm1(-error)  # p̂/p − 1 has mean 0 and most of the noise
        noise = K * float(error.std()) / math.sqrt(len(error))
        quantity = f"s² = {variance:g}: K (log p − L_K), K = {K}"
        note = "" if recorder["num_samples"] == K else "χ²/2 is the limit of large K"
        if variance < 2 / 3:  # k = 1 − s² above 1/3
            note = "χ²/2 is the limit of large K, which comes late where the weights have no third moment"
        yield Line(quantity, K * float(error.mean()), chi_square / 2, mc_se=noise, note=note, at=(variance, K))


def tail(variance):
    """The Pareto k̂ of many draws."""
    x = torch.zeros(recorder["tail_repeats"], 1).double()
    num_samples = recorder["tail_samples"]
    k = pyrovae.evaluate(*pair(variance), x, num_samples=num_samples, seed=recorder["seed"], progress=False).pareto_k
    noise = float(k.std()) / math.sqrt(len(k))
    quantity = f"s² = {variance:g}: Pareto k̂ of {num_samples} draws"
    note = "k̂ of finitely many draws lies below the index of the tail, whose start a logarithm bends"
    yield Line(quantity, float(k.mean()), 1 - variance, mc_se=noise, note=note, at=(variance,))


if __name__ == "__main__":
    recorder.run(
        [(bias, s) for s in (0.55, 0.6, 0.7, 0.8, 0.9)] + [(tail, s) for s in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)]
    )
