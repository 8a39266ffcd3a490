"""Training that is killed at random moments and resumed, again and again, until it ends: bit by bit where it would have ended.

    python tests/training/kill_and_resume.py --kills 30

Runs `pyrovae train` in a process of its own, kills that with SIGKILL, and goes on with `pyrovae train --resume`, which may be
killed too. Then the last checkpoint (parameters, buffers, optimiser, random state, history) and metrics.csv are compared with
those of a run that was left alone. The three pairs differ in their objectives and in what else has a state: an average, early
stopping, a schedule, a KL that warms up. Exits with 1 where anything differs.
"""

import argparse
import csv
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pyrovae.cli.app import main as pyrovae
from pyrovae.runs import run as runs

torch.set_num_threads(1)

CHECKPOINT_SECONDS = 0.1  # many are written, so that some kills come in the middle of one
PAIRS = {
    "ppca": ["--epochs", "24", "--batch-size", "100", "--schedule", "iwae_schedule", "--max-grad-norm", "50"],
    "gmm": ["--set", "components=4", "--epochs", "20", "--batch-size", "128", "--ema-decay", "0.99", "--retry-lr-factor", "0.5"],
    "vae": [
        *("--set", "latent=3", "--set", "hidden=(16,)", "--epochs", "20", "--batch-size", "128"),
        *("--validation-fraction", "0.1", "--patience", "18", "--kl-warmup-fraction", "0.3", "--schedule", "with_warmup"),
    ],
}  # fmt: skip


@dataclass
class Count:
    runs: int = 0
    kills: int = 0
    before: int = 0  # kills before there was a checkpoint
    saving: int = 0  # kills in the middle of writing one
    different: int = 0


def start(*words: str) -> int:
    """A process that runs the command; this one has imported all that it needs."""
    child = os.fork()
    if child:
        return child
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        runs.CHECKPOINT_SECONDS = CHECKPOINT_SECONDS
        sys.argv = ["pyrovae", *words]
        pyrovae()
    except SystemExit as end:
        os._exit(int(end.code or 0))
    finally:
        os._exit(1)


def ends_within(child: int, seconds: float, saves_to: Path | None = None) -> bool:
    """Whether the process ended by itself; if not, it is killed: then, or as soon after as it writes a checkpoint there."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit or (saves_to is not None and not halves(saves_to)):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise SystemExit(f"`pyrovae train` failed with exit code {os.waitstatus_to_exitcode(status)}.")
            return True
        time.sleep(0.001 if time.monotonic() < limit else 0.0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def halves(folder: Path) -> set[Path]:
    """What is there of a checkpoint that is being written, or was when the process was killed."""
    return set(folder.glob(".checkpoint.pt.*"))


def ending(folder: Path) -> dict[str, Any]:
    """All that a run has left that depends on its numbers."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return without_seconds({"state": state, "metrics": rows})


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_seconds(part) for key, part in value.items() if key != "seconds"}
    return [without_seconds(part) for part in value] if isinstance(value, list | tuple) else value


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and bits(one) == bits(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(part, other[key]) for key, part in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def bits(value: torch.Tensor) -> bytes:
    return value.detach().contiguous().numpy().tobytes()


def killed_and_resumed(
    words: list[str], folder: Path, kills: int, seconds: float, rng: random.Random, count: Count
) -> None:
    """One run to its end, through at most so many kills, each after a random share of the time that a whole run takes."""
    count.runs += 1
    while True:
        for half in halves(folder):
            half.unlink()
        if (folder / "config.json").exists():
            child = start("train", "--resume", str(folder))
        else:  # it was killed before it had begun
            child = start("train", *words, "--out", str(folder), "--overwrite")
        patience = rng.uniform(0.0, 0.7) * seconds if kills else 600.0
        if ends_within(child, patience, folder if kills and rng.random() < 0.5 else None):
            return
        if not kills:
            raise SystemExit(f"The run in {folder} does not end.")
        kills -= 1
        count.kills += 1
        count.before += not list(folder.glob("checkpoint*.pt"))
        count.saving += bool(halves(folder))


def main() -> int:
    told = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    told.add_argument("--kills", type=int, default=30, help="over all pairs")
    told.add_argument("--pairs", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    told.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = told.parse_args()
    rng = random.Random(arguments.seed)
    counts = {name: Count() for name in arguments.pairs}
    with tempfile.TemporaryDirectory() as place:
        whole, seconds = {}, {}
        for name in arguments.pairs:
            words = [name, *PAIRS[name]]
            folder, began = Path(place, name), time.monotonic()
            ends_within(start("train", *words, "--out", str(folder)), 600.0)
            whole[name], seconds[name] = ending(folder), time.monotonic() - began
        number = 0
        while sum(count.kills for count in counts.values()) < arguments.kills:
            left = arguments.kills - sum(count.kills for count in counts.values())
            name = arguments.pairs[number % len(arguments.pairs)]
            folder, count = Path(place, f"{name}-{number}"), counts[name]
            killed_and_resumed([name, *PAIRS[name]], folder, min(left, 4), seconds[name], rng, count)
            count.different += not same(ending(folder), whole[name])
            number += 1
    print(
        f"{'pair':8}{'runs':>6}{'kills':>7}{'before the first checkpoint':>29}{'while one is written':>22}{'differ':>8}"
    )
    for name, count in counts.items():
        print(f"{name:8}{count.runs:6}{count.kills:7}{count.before:29}{count.saving:22}{count.different:8}")
    different = sum(count.different for count in counts.values())
    print(
        "Every run ended bit by bit where the uninterrupted one did." if not different else f"{different} runs differ."
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
