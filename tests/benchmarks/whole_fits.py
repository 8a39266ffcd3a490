"""What does a whole fit of the digits VAE take, set-up included, beside the same network written by hand?

    OMP_NUM_THREADS=1 python tests/benchmarks/whole_fits.py --steps 300 3000 --rounds 5 --out whole_fits.json

Each fit runs in a process of its own, forked from one that has imported torch and pyrovae: importing is not timed, and is
shown, with what torch imports at its first step. Rounds interleave the peers. CPU time is of the process and its children, clock time what passes.
"""

import argparse
import math
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.table import Table
from rounds import in_a_process, machine, quartiles, show, write
from torch import Tensor, nn

import pyrovae

BATCH, LR, LATENT, HIDDEN, FLOOR = 128, 2e-3, 16, (200, 200), 1e-3  # those of models/vae.py


def by_hand(x: Tensor, epochs: int) -> float:
    """Train by hand and return the last epoch's mean ELBO, nats per point."""
    dim = x.shape[1]
    encoder, decoder = mlp(dim, *HIDDEN, 2 * LATENT), mlp(LATENT, *HIDDEN[::-1], 2 * dim)
    with torch.no_grad():
        decoder[-1].bias.copy_(torch.cat([x.mean(0), x.var(0).clamp(min=FLOOR).expm1().log()]))
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=LR, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-len(x) // BATCH))
    for _ in range(epochs):
        total = 0.0
        for index in torch.randperm(len(x)).split(BATCH):
            batch = x.index_select(0, index)
            loc, rho = encoder(batch).chunk(2, dim=-1)
            sigma = F.softplus(rho + math.log(math.expm1(1.0))) + 1e-6
            mean, raw = decoder(loc + sigma * torch.randn_like(sigma)).chunk(2, dim=-1)
            variance = FLOOR + F.softplus(raw)
            error = ((batch - mean).square() / variance + variance.log() + math.log(2 * math.pi)).sum()
            loss = 0.5 * (error + (sigma.square() + loc.square() - 1).sum()) - sigma.log().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
    return -total / len(x)


def mlp(*sizes: int) -> nn.Sequential:
    return pyrovae.MLP(*sizes)  # linear layers and tanh


def ours(x: Tensor, epochs: int, **options: Any) -> float:
    model, guide = pyrovae.load("vae")(x.shape[1], latent=LATENT, hidden=HIDDEN)
    result = pyrovae.fit(model, guide, x, epochs=epochs, batch_size=BATCH, lr=LR, progress=False, **options)
    return -result.losses[-1]


def rounds_of(steps: int, rounds: int, skip_eager: bool) -> dict[str, dict[str, float]]:
    x = pyrovae.load_data("digits").train
    epochs = -(-steps // -(-len(x) // BATCH))
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for turn in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # nothing has been compiled before the first time
            peers = {
                "by hand": lambda: by_hand(x, epochs),
                "pyrovae, first time": lambda: ours(x, epochs),
                "pyrovae, second time": lambda: ours(x, epochs),
            }
            if not skip_eager:
                peers["pyrovae, eager"] = lambda: ours(x, epochs, compile=False)
            base, first, second, *others = peers
            names = [base, first, second, *others] if turn % 2 == 0 else [*others, first, second, base]
            for name in names:
                rows.setdefault(name, []).append(in_a_process(peers[name]))
    summary = {}
    for name, values in rows.items():
        ratios = [
            [mine / base for mine, base in zip(a, b, strict=True)] for a, b in zip(values, rows["by hand"], strict=True)
        ]
        _, cpu, clock = (statistics.median(column) for column in zip(*values, strict=True))
        low, ratio, high = quartiles([row[1] for row in ratios])
        summary[name] = {
            "elbo": statistics.median(value for value, _, _ in values), "cpu_seconds": cpu, "clock_seconds": clock,
            "cpu_ratio": ratio, "low": low, "high": high, "clock_ratio": statistics.median(row[2] for row in ratios),
        }  # fmt: skip
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="*", default=[300, 3000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--skip-eager", action="store_true", help="leave out Pyro's own steps, which take twice as long"
    )
    parser.add_argument("--out", type=Path, help="write everything there, as JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    few = pyrovae.load_data("digits").train[:256]
    by_hand(few, 1)  # torch imports parts of itself when they are first used
    ours(few, 1)
    import_seconds = time.process_time()
    found = {str(steps): rounds_of(steps, args.rounds, args.skip_eager) for steps in args.steps}
    for steps, summary in found.items():
        table = Table(title=f"digits VAE, {steps} steps; importing took {import_seconds:.1f} s of CPU", box=None)
        for heading in ("", "CPU s", "ratio", "quartiles", "clock s", "ratio", "ELBO"):
            table.add_column(heading, justify="left" if not heading else "right")
        for name, row in summary.items():
            table.add_row(
                name, f"{row['cpu_seconds']:.2f}", f"{row['cpu_ratio']:.2f}", f"{row['low']:.2f} – {row['high']:.2f}",
                f"{row['clock_seconds']:.2f}", f"{row['clock_ratio']:.2f}", f"{row['elbo']:.3f}",
            )  # fmt: skip
        show(table)
    if args.out:
        write(args.out, {"machine": machine(args.threads), "import_cpu_seconds": import_seconds, "fits": found})


if __name__ == "__main__":
    main()
