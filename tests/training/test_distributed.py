"""Several processes have the gradient that one has, and end together."""

import contextlib
import functools
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import run_group
from typer.testing import CliRunner

from pyrovae.cli.app import app
from pyrovae.runs import run as runs

SCRIPT = Path(__file__).with_name("run_distributed.py")
ALONE = runpy.run_path(str(SCRIPT))
expected_of = functools.cache(lambda case: ALONE["outcome"](case, compile=False))  # what groups of any size must have


def torchrun(count: int, *words: object, seconds: float = 240.0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return subprocess.run(
        [*command, *map(str, words)], capture_output=True, text=True, timeout=seconds, env=environment, check=False
    )


@contextlib.contextmanager
def launched(*words: object) -> Iterator[subprocess.Popen[str]]:
    """torchrun while it runs."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "torch.distributed.run", *map(str, words)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as launcher:
        try:
            yield launcher
        finally:
            launcher.kill()


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process of a group found."""
    folder = tmp_path_factory.mktemp("ranks")
    run_group(request.param, SCRIPT, folder / "found.json", folder=folder)
    return json.loads((folder / "found.json").read_text())


def close(value: Any, expected: Any, rel: float) -> None:
    scale = max(abs(number) for number in expected)
    assert value == pytest.approx(expected, rel=rel, abs=rel * scale, nan_ok=True)


@pytest.mark.parametrize("case", ALONE["CASES"])
def test_a_group_has_the_gradient_of_one_process(case: str, found: list[dict[str, Any]]) -> None:
    """In double precision: to the order of sums. What is recorded there is eager here."""
    if case not in found[0]:
        pytest.skip("a compilation takes seconds: once, with two processes")
    expected = expected_of(case)
    for process in found:
        value = process[case]
        if expected["grad_norm"] is not None:
            close(value["grad_norm"], expected["grad_norm"], 1e-10)
        close(value["losses"], expected["losses"], 1e-8)
        close(value["parameters"], expected["parameters"], 1e-6)
        assert value["stop_reason"] == expected["stop_reason"]
        for row, other in zip(value["history"], expected["history"], strict=True):
            for name, number in other.items():
                assert row[name] == pytest.approx(number, rel=1e-7, abs=1e-9, nan_ok=True), name


def test_resumed_by_all(found: list[dict[str, Any]]) -> None:
    for process in found:
        assert {**process["resumed"], "grad_norm": None} == {**process["vae"], "grad_norm": None}


def test_one_that_diverges_stops_all_and_all_go_back_together(found: list[dict[str, Any]]) -> None:
    for how in ("error", "nan"):
        for process in found:
            stopped, retried = process[f"diverged-{how}"]
            assert stopped.startswith("Training stopped at step 6 (epoch 2): ")
            assert retried == found[0][f"diverged-{how}"][1]
        assert "not positive-definite. Lower" in found[1]["diverged-error"][0]


# as a command


@pytest.fixture
def file(tmp_path: Path) -> Path:
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(3))
    np.save(tmp_path / "points.npy", x.numpy())
    return tmp_path / "points.npy"


@pytest.mark.slow
def test_the_command_leaves_the_run_that_one_process_leaves(file: Path, tmp_path: Path) -> None:
    words = [
        "train",
        "vae",
        "--data",
        file,
        "--set",
        "latent=2",
        "--set",
        "hidden=(6,)",
        "--epochs",
        3,
        "--batch-size",
        16,
    ]
    done = torchrun(2, "-m", "pyrovae", *words, "--out", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kept in") == 1
    assert CliRunner().invoke(app, [*map(str, words), "--out", str(tmp_path / "one")]).exit_code == 0
    assert sorted(os.listdir(tmp_path / "two")) == sorted(os.listdir(tmp_path / "one"))
    two, one = (runs.load_run(tmp_path / name) for name in ("two", "one"))
    assert two.config == one.config
    close(two.fit_result.losses, one.fit_result.losses, 1e-5)
    for value, expected in zip(two.model.parameters(), one.model.parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_job_and_two_machines_end_where_the_resumed_run_does(
    file: Path, tmp_path: Path
) -> None:
    """The others say one sentence. Two machines are simulated by two launchers on this one."""
    words = ["train", "vae", "--data", file, "--set", "latent=2", "--set", "hidden=(6,)"]
    words += ["--epochs", 500, "--batch-size", 4]
    run = tmp_path / "run"
    with launched("--standalone", "--nproc-per-node", 2, "-m", "pyrovae", *words, "--out", run) as launcher:
        limit = time.monotonic() + 240
        while not (run / "checkpoint.pt").exists():
            assert launcher.poll() is None, launcher.communicate()
            assert time.monotonic() < limit
            time.sleep(0.05)
        workers = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        assert len(workers) == 2
        os.kill(int(workers[1]), signal.SIGKILL)
        killed = time.monotonic()
        _, said = launcher.communicate(timeout=120)
    assert launcher.returncode != 0
    assert time.monotonic() - killed < 60
    assert said.count("pyrovae: ") == said.count("pyrovae: Another process of the job has stopped") == 1, said
    assert "SIGKILL" in said or "Signal 9" in said
    assert len(runs.load_run(run).fit_result.losses) < 500
    done = torchrun(2, "-m", "pyrovae", "train", "--resume", run)
    assert done.returncode == 0, done.stderr
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    machine = ["--nnodes", 2, "--nproc-per-node", 1, "--rdzv-backend", "c10d", "--rdzv-id", "two"]
    machine += ["--rdzv-endpoint", f"127.0.0.1:{port}", "-m", "pyrovae", *words, "--out", tmp_path / "two"]
    with launched(*machine) as one, launched(*machine) as other:
        told = [launcher.communicate(timeout=240) for launcher in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), told
    assert sorted(printed.count("kept in") for printed, _ in told) == [0, 1]
    resumed, two = (runs.load_run(folder) for folder in (run, tmp_path / "two"))
    assert resumed.fit_result.losses == two.fit_result.losses
    for value, expected in zip(resumed.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(value, expected)
