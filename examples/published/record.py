"""What a published row was, what it is here, and how both were computed: one JSON file for each row of RESULTS.md.

A row has parts. Each part is written into the record as soon as it ends, with its cost. So a command that was stopped goes on where it
was. Each part begins at the row's seed, so that its numbers do not depend on the parts before it.
"""

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyro
import torch

from pyrovae.utils.files import replacing
from pyrovae.utils.provenance import versions

RECORDS = Path(__file__).parent / "records"
WORK = Path(__file__).parent / "work"


class BudgetSpent(Exception):
    """The minutes of `--budget` are over."""


@dataclass(frozen=True)
class Line:
    """One number of a row, beside the published one. What is not known is None."""

    quantity: str
    ours: float
    published: float | None = None
    mc_se: float | None = 0.0  # from random draws of the latent; 0 where the number is exact
    data_se: float | None = None  # from the choice of points, where they are held out
    note: str = ""  # what the reader must know to compare the two numbers
    points: int | None = None  # over which the number is a mean
    lower: float | None = (
        None  # the mean of log p(x) over points, from below and from above; both the same where it is exact
    )
    upper: float | None = None
    two_sided_se: float | None = None  # the larger of the two Monte-Carlo errors
    bound_error: float | None = None  # log p(x) minus the bound that is published, over the same points
    bound_error_se: float | None = None
    at: tuple[float, ...] = ()  # where a figure draws the number, in the order of the quantity's symbols


Part = tuple[Callable[..., Sequence[Line]], *tuple[Hashable, ...]]


class Recorder:
    """The command line of a row, and its record."""

    def __init__(
        self,
        name: str,
        title: str,
        source: str,
        unit: str,
        protocol: str,
        *,
        differences: str = "",
        arguments: Sequence[str] | None = None,
        rows: Sequence[str] = (),
        **defaults: Any,
    ):
        """Read the command's options.

        Args:
            name: Of the script, and of the record where the script has one.
            title: Of the row.
            source: Where the numbers were published.
            unit: Of the numbers.
            protocol: How they were computed, there and here.
            differences: What is not as published.
            rows: Options whose values name the record beside the script, where one script has several rows.
            arguments: Of the command. Default: those that it was called with.
            **defaults: Options of the command: --name VALUE, of the default's type.
        """
        self.script = name
        self.about = {
            "title": title,
            "source": source,
            "unit": unit,
            "protocol": protocol,
            "differences": differences,
        }
        parser = argparse.ArgumentParser(description=f"{title}. Source: {source}.")
        parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the record")
        parser.add_argument("--work", type=Path, default=WORK, help="folder of checkpoints")
        parser.add_argument("--budget", type=float, default=math.inf, metavar="MINUTES", help="stop after so many")
        parser.add_argument(
            "--restart", action="store_true", help="compute all parts again, also those of a stopped command"
        )
        parser.add_argument("--only", default="", metavar="TEXT", help="compute only parts whose names have this text")
        for option, default in defaults.items():
            kind = str if default is None else type(default)
            parser.add_argument(f"--{option.replace('_', '-')}", type=kind, default=default)
        self.settings = vars(parser.parse_args(arguments))
        self.name = "_".join([name, *(str(self.settings[option]) for option in rows)])
        self.records: Path = self.settings.pop("records")
        self.work: Path = self.settings.pop("work") / self.name
        self.budget: float = 60 * self.settings.pop("budget")  # seconds
        self.restart: bool = self.settings.pop("restart")
        self.only: str = self.settings.pop("only")
        self.started = time.perf_counter()

    def __getitem__(self, option: str) -> Any:
        return self.settings[option]

    @property
    def path(self) -> Path:
        return self.records / f"{self.name}.json"

    @property
    def seconds_left(self) -> float:
        """Of the budget."""
        return self.budget - (time.perf_counter() - self.started)

    def check_budget(self, *_: Any) -> None:
        """Raise `BudgetSpent` where the budget is spent: for long parts, as `fit(…, on_epoch=recorder.check_budget)`."""
        if self.seconds_left <= 0:
            raise BudgetSpent

    def run(self, parts: Sequence[Part]) -> list[Line]:
        """Compute the parts that the record does not have, and write each into it.

        Args:
            parts: Each is a function and its arguments. The function returns the lines of the part.

        Returns:
            The lines of all parts that are there.
        """
        names = [part_name(*part) for part in parts]
        if self.restart and self._finished(names):
            self.path.unlink()
        done = self._finished(names)
        if done:
            _say(f"{self.path} has {len(done)} of {len(parts)} parts, which are kept: --restart computes them again")
            self._write(names, done)  # it may have had others, which are asked for no more
        for place, (name, (function, *arguments)) in enumerate(zip(names, parts, strict=True), start=1):
            if name in done or self.only not in name:
                continue
            _say(f"{self.name}: part {place} of {len(parts)}, {name}")
            before = _clock()
            try:
                self.check_budget()
                pyro.set_rng_seed(self.settings.get("seed", 0))
                lines = list(function(*arguments))
            except BudgetSpent:
                done |= self._finished(names)
                self._write(names, done, f" after a budget of {self.budget / 60:g} minutes")
                _say(f"{self.name} stopped after a budget of {self.budget / 60:g} minutes: the same command goes on")
                break
            cost = {key: round(after - before[key], 1) for key, after in _clock().items()}
            for line in lines:
                known = "" if line.published is None else f"  published {line.published:g}"
                print(f"{line.quantity:60} {line.ours:.4f}{known}", flush=True)
            computed = {
                "part": name,
                **cost,
                "machine": machine(),
                "versions": versions(),
                "lines": [asdict(line) for line in lines],
            }
            done |= {**self._finished(names), name: computed}  # with those of a command that runs beside this one
            self._write(names, done)
        return [Line(**line) for name in names if name in done for line in done[name]["lines"]]

    def _finished(self, names: list[str]) -> dict[str, dict[str, Any]]:
        """The parts of a stopped command with these settings. A finished one begins anew."""
        try:
            record = json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}
        if not record.get("stopped") or record["settings"] != self.settings:
            return {}
        # older parts have no machine of their own
        parts = [{"machine": record["machine"], **part} for part in record["parts"]]
        return {part["part"]: part for part in parts if part["part"] in names}

    def _write(self, names: list[str], done: dict[str, dict[str, Any]], why: str = "") -> None:
        parts = [done[name] for name in names if name in done]
        missing = ", ".join(name for name in names if name not in done)
        stopped = f"stopped{why}, with {len(parts)} of {len(names)} parts, without {missing}" if missing else ""
        options = " ".join(
            f"--{name.replace('_', '-')} {value}" for name, value in self.settings.items() if value is not None
        )
        record = {
            "name": self.name,
            "script": self.script,
            **self.about,
            "command": f"python examples/published/{self.script}.py {options}".strip(),
            "settings": self.settings,
            "stopped": stopped,
            **{key: round(sum(part[key] for part in parts), 1) for key in ("seconds", "cpu_seconds")},
            "machine": machine(),
            "parts": parts,
        }
        self.records.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as path:
            path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


def part_name(function: Callable[..., Any], *arguments: Any) -> str:
    """A part's name in the record: `tail(0.3)`."""
    return f"{function.__name__}({', '.join(map(str, arguments))})"


def lines_of(record: dict[str, Any]) -> list[Line]:
    """All lines of a record."""
    return [Line(**line) for part in record["parts"] for line in part["lines"]]


def two_digits(value: float) -> str:
    """A number with two digits that count: 0.00021, 6.6, 130."""
    return f"{float(f'{value:.2g}'):g}".replace("-", "−")


def machine() -> dict[str, Any]:
    """What computed: numbers are the same bit for bit on one kind of processor, with one number of threads."""
    processor = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = f"{processor}, {models[0].strip()}" if models else processor
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "processor": processor,
    }


def _clock() -> dict[str, float]:
    return {
        "seconds": time.perf_counter(),
        "cpu_seconds": sum(os.times()[:4]),
    }  # of this process and those it has started


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
