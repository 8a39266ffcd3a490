"""What log p(x) to a tolerance costs, beside the guide's draws: error and time on a VAE of digits.

    python tests/benchmarks/tolerance.py --threads 2 --rounds 5 --json tests/benchmarks/results/tolerance.json

The base is the K-sample bound of 5,000 draws of the guide, compiled. Peers take turns in each round; times are medians. The
error is that of the mean, against draws about the modes of another seed with a standard error of 0.01 nats a point.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from rounds import machine

import pyrovae


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--points", type=int, default=359)
    parser.add_argument("--latent", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    data = pyrovae.load_data("digits")
    model, guide = pyrovae.load("vae")(data.dim, latent=arguments.latent)
    pyrovae.fit(model, guide, data.train, epochs=arguments.epochs, lr=1e-3)
    x = data.test[: arguments.points]
    truth = pyrovae.estimators.mode_sampling_log_likelihood(model, guide, x, 0.01, seed=99).mean_log_likelihood.value
    peers = {
        "guide, 5,000 draws": lambda: pyrovae.evaluate(model, guide, x, num_samples=5000, compile=True),
        "guide, 1,000 draws": lambda: pyrovae.evaluate(model, guide, x, num_samples=1000, compile=True),
        "to 0.05 nats": lambda: pyrovae.evaluate(model, guide, x),
        "of it about the modes": lambda: pyrovae.estimators.mode_sampling_log_likelihood(model, guide, x),
    }
    times: dict[str, list[float]] = {name: [] for name in peers}
    found = {name: peer().mean_log_likelihood for name, peer in peers.items()}  # also compiles
    for round_number in range(arguments.rounds):
        names = list(peers)
        for name in names[round_number % len(names) :] + names[: round_number % len(names)]:
            started = time.perf_counter()
            peers[name]()
            times[name].append(time.perf_counter() - started)
    base = times["guide, 5,000 draws"]
    rows = [
        {
            "method": name,
            "seconds": statistics.median(taken),
            "ratio": statistics.median(a / b for a, b in zip(taken, base, strict=True)),
            "error": found[name].value - truth,
            "mc_se": found[name].mc_se,
        }
        for name, taken in times.items()
    ]
    for row in rows:
        print(
            f"{row['method']:24} {row['seconds']:8.2f} s  {row['ratio']:6.2f}  error {row['error']:+.4f} ± {row['mc_se']:.4f} nats"
        )
    if arguments.json is not None:
        content = {"machine": machine(arguments.threads), "truth": truth, "methods": rows}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
