"""Processes that share the points of an evaluation have the numbers of one that scores them all."""

import os
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = """
import sys
import torch
import pyrovae
from pyrovae.estimators import batch_layout
from pyrovae.utils.distributed import init_process_group

batch_layout.BLOCK_ROWS["cpu"] = 2**9
with init_process_group() as ranks:
    torch.manual_seed(0)
    model, guide = pyrovae.load("vae")(4, latent=2, hidden=(8,))
    found = pyrovae.evaluate(model, guide, torch.rand(47, 4), num_samples=100, seed=3)
    assert len(found) == 47
    if ranks.first:
        names = ("log_likelihood", "elbo", "ess", "pareto_k", "log_likelihood_se")
        torch.save({name: getattr(found, name) for name in names}, sys.argv[1])
"""


def test_two_processes_and_one_have_the_same_numbers(tmp_path: Path) -> None:
    script = tmp_path / "score.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    alone = [sys.executable, script, tmp_path / "1.pt"]
    together = [*(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")]
    for words in (alone, [*together, script, tmp_path / "2.pt"]):
        done = subprocess.run(list(map(str, words)), env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f"{count}.pt", weights_only=True) for count in (1, 2))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
