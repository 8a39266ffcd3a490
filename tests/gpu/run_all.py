"""Check and measure pyrovae on a device. Each part has a limit, and what it found is written down before the next begins."""

import argparse
import contextlib
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import correctness
import measurements
import torch
from rounds import write

from pyrovae.utils.provenance import versions

LIMITS = {"correctness": 150, "limits": 20, "training": 90, "evidence": 90, "steps": 130}  # seconds: 8 minutes in all


class OutOfTime(BaseException):
    """A part has used up its seconds."""


@contextlib.contextmanager
def limit_of(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise OutOfTime(f"it took more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Report:
    """What has been found so far, on disk too."""

    def __init__(self, out: Path | None, seconds: float, about: dict[str, Any]):
        self.out, self.end = out, time.monotonic() + seconds
        self.share = seconds / sum(LIMITS.values())
        self.used = dict.fromkeys(LIMITS, 0.0)
        self.found: dict[str, Any] = {**about, "parts": {}}
        self.ok = True

    def part(self, kind: str, name: str, work: Callable[[], Any]) -> Any:
        """The result of a part, None where it failed; what failed is written down, and the next part runs."""
        left = min(self.share * LIMITS[kind] - self.used[kind], self.end - time.monotonic())
        begun, entry = time.monotonic(), dict[str, Any]()
        if left <= 0:
            entry["error"] = "no time was left"
        else:
            try:
                with limit_of(left):
                    entry["found"] = work()
            except (Exception, OutOfTime) as error:  # whatever it is, the other parts are to be had
                entry["error"] = f"{type(error).__name__}: {error}"[:500]
                traceback.print_exc()
        entry["seconds"] = time.monotonic() - begun
        self.used[kind] += entry["seconds"]
        self.ok = self.ok and "found" in entry
        title = f"{kind}: {name}" if name else kind
        self.found["parts"][title] = entry
        self.save()
        print(f"{title}: {entry.get('error', 'done')}, {entry['seconds']:.1f} s", flush=True)
        return entry.get("found")

    def fail(self, what: Any) -> None:
        self.ok = False
        print(f"  FAILED {what}", flush=True)

    def save(self) -> None:
        if self.out is not None:
            write(self.out, self.found)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu")
    parser.add_argument("--small", action="store_true", help="a rehearsal: little data, small networks")
    parser.add_argument("--no-compile", action="store_true", help="leave out what has to be compiled")
    parser.add_argument("--seconds", type=float, help="for everything; 480 on a GPU, an hour for a rehearsal")
    parser.add_argument("--only", nargs="*", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument("--out", type=Path, help="JSON; on a GPU by default in tests/benchmarks/results")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    device = torch.device(given.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise SystemExit("torch finds no GPU: give --device cpu --small for a rehearsal.")
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)  # where the benchmarks' own code puts what names no device
    about = {"device": str(device), "small": given.small, "machine": measurements.card(device), "versions": versions()}
    seconds = given.seconds or (sum(LIMITS.values()) if device.type == "cuda" else 3600)
    report = Report(given.out or measurements.default_file(device), seconds, about)
    small, compile = given.small, not given.no_compile
    if "correctness" in given.only:
        for name, checks in correctness.all_checks(device, small, compile).items():
            summary = report.part("correctness", name, lambda checks=checks: correctness.summary(list(checks())))
            for failed in (summary or {}).get("failed", []):
                report.fail(failed)
    limit = report.part("limits", "", lambda: measurements.limits(device, small))
    trained = measurements.vae(device, small)
    for precision in measurements.PRECISIONS if "training" in given.only else ():
        pair = trained if precision == "fp32" else measurements.vae(device, small)
        report.part(
            "training",
            precision,
            lambda pair=pair, precision=precision: measurements.training(device, small, limit, pair, precision),
        )
    for way in measurements.WAYS if "evidence" in given.only else ():
        report.part("evidence", way, lambda way=way: measurements.evidence(device, small, limit, trained, way))
    if "steps" in given.only and compile:
        for name, build in measurements.step_cases(small).items():
            report.part("steps", name, lambda name=name, build=build: measurements.one_step(name, build, device, small))
    report.found["ok"] = report.ok
    report.save()
    return 0 if report.ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
