"""How long 5,000 weights a point take: pyrovae's road for any pair, a loop written by hand for this one model, and a loop of the
kind that libraries have, a point at a time.

    python tests/benchmarks/evidence.py [--points 100] [--num-samples 5000] [--rounds 7] [--threads 2] [--json evidence.json]

The model is a VAE of 784 pixels, 784-200-200-50 and its mirror, Bernoulli pixels, trained for a moment on draws from another
of its kind. Rounds are interleaved; times are medians over rounds, ratios medians of each round's ratio to the loop by hand.
Compiling is told apart: it happens once for a model.
"""

import argparse
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

import pyrovae


def trained(seed: int = 0) -> tuple[object, object, Tensor]:
    """The pair, and 2,000 points of the kind that it knows."""
    torch.manual_seed(seed)
    build = pyrovae.load("vae")
    source, _ = build(784, latent=50, likelihood=pyrovae.likelihoods.Bernoulli())
    with torch.no_grad():
        source.decoder[-1].weight.mul_(4)  # pixels that say something of z
        source.offset.fill_(-2.0)
    x = pyrovae.sample(source, 2000, torch.zeros(1, 784))
    model, guide = build(784, latent=50, likelihood=pyrovae.likelihoods.Bernoulli())
    pyrovae.fit(model, guide, x, epochs=20)
    return model, guide, x


def posterior(guide: object, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of q(z|x)."""
    loc, rho = guide.encoder(x).chunk(2, dim=-1)
    return loc, F.softplus(rho + math.log(math.e - 1)) + 1e-6


def by_hand(model: object, guide: object, x: Tensor, num_samples: int, rows: int = 1000) -> Tensor:
    """What one would write: the encoder once, `rows` decoder rows at a time, eager."""
    with torch.no_grad():
        loc, scale = posterior(guide, x)
        draws, parts = max(1, rows // len(x)), []
        for start in range(0, num_samples, draws):
            eps = torch.randn(min(draws, num_samples - start), *loc.shape)
            z = loc + scale * eps
            logits = model.decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2]) + model.offset
            log_px = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
            parts.append(log_px - 0.5 * (z.square() - eps.square()).sum(-1) + scale.log().sum(-1))
        return torch.logsumexp(torch.cat(parts), dim=0) - math.log(num_samples)


def one_by_one(model: object, guide: object, x: Tensor, num_samples: int, rows: int = 100) -> Tensor:
    """As pythae's get_nll goes about it: for each point, for each hundred samples, the point a hundred times through encoder
    and decoder, and the cross-entropy of probabilities."""
    found = []
    with torch.no_grad():
        for point in x:
            weights = []
            for _ in range(num_samples // rows):
                copies = point.expand(rows, -1).contiguous()
                loc, scale = posterior(guide, copies)
                z = loc + scale * torch.randn_like(loc)
                pixels = torch.sigmoid(model.decoder(z) + model.offset)
                log_px = -F.binary_cross_entropy(pixels, copies, reduction="none").sum(-1)
                log_q = -0.5 * ((z - loc) ** 2 / scale**2).sum(-1) - scale.log().sum(-1)
                weights.append(log_px - 0.5 * (z**2).sum(-1) - log_q)
            found.append(torch.logsumexp(torch.cat(weights), dim=0) - math.log(num_samples))
    return torch.stack(found)


def their_own(model: object, guide: object, x: Tensor, num_samples: int) -> dict[str, Callable[[], Tensor]]:
    """pythae's own `get_nll`, where it is installed; it gives the mean over points alone, and its sign is log p̂'s."""
    try:
        from peers.in_pythae import in_pythae
    except ImportError:
        return {}
    vae = in_pythae(model, guide, x.shape[1], 50)

    def get_nll() -> Tensor:
        with torch.no_grad():
            return torch.tensor(vae.get_nll(x, n_samples=num_samples, batch_size=100))

    return {"pythae's get_nll": get_nll}


def ceiling() -> float:
    """Floating-point operations a second of a matrix product of single precision, as this machine has them now."""
    a, b = torch.randn(1536, 1536), torch.randn(1536, 1536)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - started)
    return 2 * 1536**3 / statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("points", 100), ("num_samples", 5000), ("rounds", 7), ("threads", torch.get_num_threads())):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json")
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    warnings.filterwarnings("ignore")
    model, guide, data = trained()
    x = data[: told.points]

    def ours(**how: object) -> Callable[[], Tensor]:
        return lambda: pyrovae.evaluate(model, guide, x, told.num_samples, **how).log_likelihood

    roads: dict[str, Callable[[], Tensor]] = {
        "by hand, eager, 1,000 rows": lambda: by_hand(model, guide, x, told.num_samples),
        "a point at a time (as pythae)": lambda: one_by_one(model, guide, x, told.num_samples),
        **their_own(model, guide, x, told.num_samples),
        "pyrovae, not compiled": ours(compile=False),
        "pyrovae": ours(compile=True),
        "pyrovae, bfloat16 screen": ours(compile=True, low_precision=torch.bfloat16),
    }
    found, first = {}, {}
    for name, road in roads.items():
        started = time.perf_counter()
        found[name] = road()
        first[name] = time.perf_counter() - started
    times: dict[str, list[float]] = {name: [] for name in roads}
    ceilings = []
    for _ in range(told.rounds):
        ceilings.append(ceiling())
        for name, road in roads.items():
            started = time.perf_counter()
            road()
            times[name].append(time.perf_counter() - started)
    hand = times["by hand, eager, 1,000 rows"]
    peer = times["a point at a time (as pythae)"]
    layers = [layer for layer in model.decoder if hasattr(layer, "weight")]
    work = told.points * told.num_samples * sum(2 * layer.weight.numel() for layer in layers)
    exact = found["pyrovae"]
    rows = []
    print(f"{told.points} points × {told.num_samples} samples, {told.threads} threads, {told.rounds} rounds\n")
    print(f"{'':32} seconds  by hand  as pythae  of GEMM  first call  mean − pyrovae's, nats")
    for name, taken in times.items():
        row = {
            "road": name,
            "seconds": statistics.median(taken),
            "to_by_hand": statistics.median(a / b for a, b in zip(taken, hand, strict=True)),
            "to_pythae": statistics.median(a / b for a, b in zip(taken, peer, strict=True)),
            "of_gemm": statistics.median(work / a / c for a, c in zip(taken, ceilings, strict=True)),
            "first_call": first[name],
            "difference_of_means": float(found[name].mean() - exact.mean()),
            "largest_difference": None if found[name].dim() == 0 else float((found[name] - exact).abs().max()),
        }
        rows.append(row)
        print(
            f"{name:32} {row['seconds']:7.3f}  {row['to_by_hand']:7.2f}  {row['to_pythae']:9.2f}  {row['of_gemm']:7.0%}"
            f"  {row['first_call']:10.1f}  {row['difference_of_means']:+.4f}"
        )
    print(f"\nmatrix products of 1,536: {statistics.median(ceilings) / 1e9:.0f} GFLOP/s in float32")
    if told.json:
        with open(told.json, "w") as file:
            json.dump({"told": vars(told), "gemm_flops": statistics.median(ceilings), "roads": rows}, file, indent=2)


if __name__ == "__main__":
    main()
