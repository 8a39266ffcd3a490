"""What log p(x) to a tolerance costs, beside the guide's draws: error and time on a VAE of digits.

    OMP_NUM_THREADS=1 python tests/benchmarks/tolerance.py --rounds 5 --json tests/benchmarks/results/tolerance.json

The base is the K-sample bound of 5,000 draws of the guide, compiled. Peers take turns in each round, and times are medians. First all
evaluate in processes of their own, forked from one that has trained the pair. There what a first evaluation imports and compiles is
counted. Then they evaluate again and again in one process. The error is that of the mean, against draws about the modes of another
seed with a standard error of 0.01 nats a point.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from rounds import in_a_process, interleave, machine, show, table, write

import pyrovae


def first_times(peers: dict[str, Callable[[], pyrovae.Evidence]], rounds: int) -> dict[str, dict[str, float]]:
    """CPU seconds of the first evaluation of a process in which nothing has been compiled, and their ratio to the first peer's."""
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    for turn in range(rounds):
        names = list(peers)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            with tempfile.TemporaryDirectory() as cache:
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
                seconds[name].append(in_a_process(lambda name=name: peers[name]().mean_log_likelihood.value)[1])
    del os.environ["TORCHINDUCTOR_CACHE_DIR"]
    base = next(iter(seconds.values()))
    return {
        name: {
            "cpu_seconds": statistics.median(taken),
            "ratio": statistics.median(a / b for a, b in zip(taken, base, strict=True)),
        }
        for name, taken in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--points", type=int, default=359)
    parser.add_argument("--latent", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # threads do not survive a fork
    torch.manual_seed(0)
    data = pyrovae.load_data("digits")
    model, guide = pyrovae.load("vae")(data.dim, latent=arguments.latent)
    pyrovae.fit(model, guide, data.train, epochs=arguments.epochs, lr=1e-3)
    x = data.test[: arguments.points]
    base = "guide, 5,000 draws"
    peers: dict[str, Callable[[], pyrovae.Evidence]] = {
        base: lambda: pyrovae.evaluate(model, guide, x, num_samples=5000, compile=True),
        "guide, 500 draws": lambda: pyrovae.evaluate(model, guide, x, num_samples=500),
        "to 0.05 nats": lambda: pyrovae.evaluate(model, guide, x),
    }
    first = first_times(peers, arguments.rounds)
    found = {name: peer().mean_log_likelihood for name, peer in peers.items()}
    truth = pyrovae.estimators.mode_sampling_log_likelihood(model, guide, x, 0.01, seed=99).mean_log_likelihood.value
    summary = interleave(peers, arguments.rounds, warm=0).summary(base)
    show(table("again in one process", summary, base, "ms", 1e3))
    for name, row in first.items():
        print(f"{name}: first time {row['cpu_seconds']:.2f} CPU s, {row['ratio']:.2f} of the base")
    rows = [
        {
            "method": name,
            "again": summary[name],
            "first": first[name],
            "error": found[name].value - truth,
            "mc_se": found[name].mc_se,
        }
        for name in peers
    ]
    for row in rows:
        print(f"{row['method']}: error {row['error']:+.4f} ± {row['mc_se']:.4f} nats")
    if arguments.json is not None:
        write(arguments.json, {"machine": machine(1), "truth": truth, "methods": rows})


if __name__ == "__main__":
    main()
