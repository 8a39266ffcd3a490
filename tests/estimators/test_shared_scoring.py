"""Processes that share the points of an evaluation have the numbers of one that scores them all."""

from pathlib import Path

import torch
from processes import run_group

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
    for count in (1, 2):
        run_group(count, script, tmp_path / f"{count}.pt", folder=tmp_path)
    one, two = (torch.load(tmp_path / f"{count}.pt", weights_only=True) for count in (1, 2))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
