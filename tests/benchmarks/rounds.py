"""Timing by interleaved rounds: what disturbs a machine disturbs all peers alike, and the ratio of a round hardly sees it.

Every peer works once in every round, in an order that rotates. A ratio is the median over the rounds of (a peer's time / the
base's time in the same round), with its quartiles beside it.
"""

import json
import os
import pickle
import platform
import resource
import statistics
import time
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

VERSIONS = ("torch", "pyro-ppl", "numpyro", "jax", "scikit-learn")


class Stopwatch:
    """Wall-clock and processor seconds since it was made. Those of the processor, summed over threads, leave out the time in
    which others had it."""

    def __init__(self) -> None:
        self.wall, self.processor = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self.wall, time.process_time() - self.processor


class Rounds:
    """Seconds per unit of work, for each peer a list with one entry a round: on the wall, and of the processor."""

    def __init__(self, pause: float = 0.0) -> None:
        """`pause` are seconds of rest after each peer, in which threads that wait for more work by spinning give up."""
        self.pause = pause
        self.seconds: dict[str, list[float]] = {}
        self.processor: dict[str, list[float]] = {}

    def add(self, name: str, watch: Stopwatch, units: int = 1) -> None:
        wall, processor = watch.read()
        self.seconds.setdefault(name, []).append(wall / units)
        self.processor.setdefault(name, []).append(processor / units)

    def once(self, peers: Mapping[str, Callable[[], object]], units: int = 1) -> None:
        """Time every peer once; each call does `units` units of work and returns when they are done."""
        names = list(peers)
        turn = max((len(times) for times in self.seconds.values()), default=0) % max(1, len(names))
        for name in names[turn:] + names[:turn]:
            watch = Stopwatch()
            peers[name]()
            self.add(name, watch, units)
            time.sleep(self.pause)

    def skip(self, rounds: int) -> None:
        """Forget the first rounds, in which caches fill and code is compiled."""
        for times in [*self.seconds.values(), *self.processor.values()]:
            del times[:rounds]

    def summary(self, base: str) -> dict[str, dict[str, float]]:
        """For each peer the median seconds, median and quartiles of its ratio to the base, and that of processor seconds."""
        found = {}
        for name, times in self.seconds.items():
            low, middle, high = quartiles(_ratios(times, self.seconds[base]))
            found[name] = {"seconds": statistics.median(times), "ratio": middle, "low": low, "high": high}
            _, found[name]["processor"], _ = quartiles(_ratios(self.processor[name], self.processor[base]))
        return found


def _ratios(mine: list[float], its: list[float]) -> list[float]:
    return [a / b for a, b in zip(mine, its, strict=True)]


def interleave(peers: Mapping[str, Callable[[], object]], rounds: int, warm: int = 2) -> Rounds:
    """`rounds` rounds of all peers, after `warm` that are not counted."""
    timed = Rounds()
    for _ in range(warm + rounds):
        timed.once(peers)
    timed.skip(warm)
    return timed


def quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def in_a_process(work: Callable[[], float]) -> tuple[float, float, float]:
    """The result of `work()`, the CPU seconds of a child process that does it, and those on the clock."""
    read, written = os.pipe()
    if (child := os.fork()) == 0:
        try:
            torch.manual_seed(0)
            clock, cpu = time.perf_counter(), _processor_seconds()
            value = work()
            os.write(written, pickle.dumps((value, _processor_seconds() - cpu, time.perf_counter() - clock)))
        except BaseException:
            traceback.print_exc()  # the parent ends with an EOFError
        finally:
            os._exit(0)
    os.close(written)
    told = os.read(read, 1 << 16)
    os.waitpid(child, 0)
    os.close(read)
    values: tuple[float, float, float] = pickle.loads(told)
    return values


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def machine(threads: int) -> dict[str, object]:
    """What the numbers were measured on."""
    found: dict[str, object] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": platform.system(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],  # of the minute before: others at work make times long and spreads wide
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found | {name: _version(name) for name in VERSIONS}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def table(title: str, summary: Mapping[str, Mapping[str, float]], base: str, unit: str, scale: float) -> Table:
    """A row for each peer. `unit` names `scale` × seconds."""
    found = Table(title=title, title_justify="left", box=None, pad_edge=False)
    found.add_column("")
    for heading in (unit, f"ratio to {base}", "quartiles", "ratio of CPU time"):
        found.add_column(heading, justify="right")
    for name, row in summary.items():
        spread = f"{row['low']:.2f} – {row['high']:.2f}"
        found.add_row(name, f"{row['seconds'] * scale:,.0f}", f"{row['ratio']:.2f}", spread, f"{row['processor']:.2f}")
    return found


def show(*tables: Table) -> None:
    console = Console(width=max(100, Console().width), highlight=False)
    for each in tables:
        console.print(each)
        console.print()


def write(path: Path, results: Mapping[str, object]) -> None:
    """JSON, at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(_rounded(results), indent=1, ensure_ascii=False) + "\n")
    fresh.replace(path)


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value
