"""Processes that share points, draws or trainings have the numbers of one process. tests/cli/ has the same of commands."""

from pathlib import Path

import torch
from processes import run_group

SCRIPT = """
import sys
from pathlib import Path
import numpy
import torch
import pyrovae
from pyrovae.diagnostics import aggregate_posterior
from pyrovae.estimators import batch_layout
from pyrovae.estimators.bidirectional import bdmc
from pyrovae.posterior import batching
from pyrovae.utils.distributed import init_process_group

batch_layout.BLOCK_ROWS["cpu"] = 2**9  # small pieces, so that there are several
batching.CHUNK_ELEMENTS["cpu"], batching.MIN_CHUNK_ROWS = 2**7, 2**7
aggregate_posterior.BLOCK_ELEMENTS = 2**10
folder = Path(sys.argv[1])
done = []


def chunk(*arguments):
    done.append(len(arguments[-1]))
    return joint(*arguments)


joint, batching.Joint = batching.Joint, chunk
with init_process_group() as ranks:
    torch.manual_seed(0)
    model, guide = pyrovae.load("vae")(4, latent=2, hidden=(8,))
    x = torch.rand(47, 4)
    found = {"guide": pyrovae.evaluate(model, guide, x, num_samples=100, seed=3)}
    found["modes"] = pyrovae.evaluate(model, guide, x[:20], 10, 3, tolerance=0.3)
    if ranks.first:
        numpy.save(folder / "x.npy", x[:20].numpy())
    ranks.barrier()
    found["file"] = pyrovae.evaluate(model, guide, pyrovae.Shards(folder / "x.npy"), 10, 3, tolerance=0.3)
    found["ais"] = pyrovae.ais(model, guide, x[:12], 2, 3, seed=1)
    found["bdmc"] = bdmc(model, guide, x, 12, 2, 3, seed=1)
    numbers = {f"{name}, {key}": value for name, each in found.items() for key, value in each.per_point().items()}
    diagnosis = pyrovae.diagnose(model, guide, x, 3, prior_samples=40)
    numbers |= {"information": diagnosis.information, "holes": diagnosis.holes.scores}
    chosen = pyrovae.choose(
        pyrovae.load("gmm"), {"components": [1, 2, 3]}, x, 10, tolerance=0.3, training={"epochs": 1}
    )
    numbers |= {name: each.log_likelihood for name, each in chosen.candidates.items()}
    parts = ranks.collect(lambda: sum(done))
    if ranks.first:
        torch.save((numbers, parts), folder / f"{ranks.count}.pt")
"""


def test_two_processes_and_one_have_the_same_numbers(tmp_path: Path) -> None:
    script = tmp_path / "score.py"
    script.write_text(SCRIPT)
    for count in (1, 2):
        run_group(count, script, tmp_path, folder=tmp_path)
    (one, (whole,)), (two, parts) = (torch.load(tmp_path / f"{count}.pt", weights_only=True) for count in (1, 2))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(torch.as_tensor(value).nan_to_num(7.0), torch.as_tensor(two[name]).nan_to_num(7.0)), name
    assert torch.equal(one["modes, log_likelihood"], one["file, log_likelihood"])
    assert max(parts) < 0.7 * whole, (parts, whole)  # points that each has gone through
