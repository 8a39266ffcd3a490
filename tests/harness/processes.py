"""Processes of their own for scripts: forked from one that has imported the package, because importing takes seconds."""

import contextlib
import multiprocessing
import os
import runpy
import socket
import sys
import time
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        *("torch", "pyro", "pyrovae.cli.app", "pyrovae.evaluation.evaluating", "pyrovae.training"),
        *("arviz", "torch._dynamo"),  # what the first evaluation imports
    ]
)


class Script:
    """A script that runs in a process of its own. What it prints goes to the file `out`, errors beside it."""

    def __init__(self, script: str | Path, *words: object, out: Path, module: bool = False, **environment: object):
        """`module`: `script` is the name of a module, run as by `python -m`. `environment` is added to this process's own."""
        self.out = out
        added = {name: str(value) for name, value in environment.items()}
        self.process = SERVER.Process(
            target=_run, args=(str(script), list(map(str, words)), str(out), dict(os.environ) | added, module)
        )
        self.process.start()

    def wait_for(self, text: str, seconds: float = 120.0) -> None:
        """Wait until the script has printed this."""
        limit = time.monotonic() + seconds
        while text not in self.printed():
            assert self.process.is_alive(), self.errors()
            assert time.monotonic() < limit, self.printed()
            time.sleep(0.01)

    def end(self, seconds: float = 240.0) -> int | None:
        """Wait for the end, and kill what does not end. Returns the exit code, negative where a signal ended it."""
        self.process.join(seconds)
        self.process.kill()
        self.process.join()
        return self.process.exitcode

    def printed(self) -> str:
        return self.out.read_text() if self.out.exists() else ""

    def errors(self) -> str:
        return Path(f"{self.out}.errors").read_text()


def run_group(count: int, script: str | Path, *words: object, folder: Path) -> None:
    """Run a script in several processes, as torchrun starts them. Fails with what they print where one fails."""
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free.getsockname()[1]}
    group = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, **address}
    ranks = [
        Script(script, *words, out=folder / f"rank-{rank}.txt", **group, RANK=rank, LOCAL_RANK=rank)
        for rank in range(count)
    ]
    codes = [rank.end() for rank in ranks]
    assert codes == [0] * count, "\n".join(rank.errors() for rank in ranks)


def _run(script: str, words: list[str], out: str, environment: dict[str, str], module: bool) -> None:
    for number, path in ((1, out), (2, f"{out}.errors")):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(environment)
    sys.argv = [script, *words]
    (runpy.run_module if module else runpy.run_path)(script, run_name="__main__")
