"""What test_several_processes.py has one process and a group do: commands, one after another.

`run_commands.py FOLDER RUN DATA` writes what they print and their exit codes to FOLDER, and how much of the work was this
process's.
"""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pyro
import torch

from pyrovae import NonFiniteError
from pyrovae.cli.app import main
from pyrovae.diagnostics import aggregate_posterior
from pyrovae.estimators import batch_layout, batched_scoring
from pyrovae.posterior import batching
from pyrovae.training import fitting
from pyrovae.utils.distributed import ProcessGroup, init_process_group

# small chunks, so that there are several
batch_layout.BLOCK_ROWS["cpu"] = 2**7
batching.CHUNK_ELEMENTS["cpu"], batching.MIN_CHUNK_ROWS = 2**7, 2**7
aggregate_posterior.BLOCK_ELEMENTS = 2**9
WORK = {"chunks": 0, "batches": 0, "trainings": 0, "blocks": 0}


def counted(name: str, module: Any, function: str) -> None:
    whole = getattr(module, function)

    def counting(*args: Any, **kwargs: Any) -> Any:
        WORK[name] += 1
        return whole(*args, **kwargs)

    setattr(module, function, counting)


def command(*words: object) -> dict[str, Any]:
    """Its exit code and what it prints."""
    pyro.clear_param_store()
    sys.argv = ["pyrovae", *map(str, words)]
    before = dict(WORK)

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            main()
            code: Any = 0
        except SystemExit as exit:
            code = exit.code
    work = {name: count - before[name] for name, count in WORK.items()}
    return {"code": code, "printed": printed.getvalue(), "work": work}


def run(folder: Path, trained: str, data: str, rank: int) -> dict[str, dict[str, Any]]:
    given = ("--num-samples", 20, "--tolerance", 0.3)
    chains = ("--ais", "--ais-points", 8, "--ais-chains", 2, "--ais-steps", 3, "--bdmc")
    sides = ("--two-sided", "--two-sided-samples", 4, "--two-sided-replicates", 2, "--prior-sampling")
    train = ("train", "ppca", "--data", data, "--epochs", 2, "--set", "latent=1")
    found = {
        "evaluate": command("evaluate", trained, *given, *chains, *sides, "--json", folder / "evaluate.json"),
        "gap": command("gap", trained, "--points", 5, "--num-samples", 20, "--json", folder / "gap.json"),
        "diagnose": command("diagnose", trained, "--json", folder / "diagnose.json", "--out", folder / "figures"),
        "choose": command(
            *("choose", "gmm", "--over", "components=1,2,3", "--data", data, "--epochs", 2, *given),
            *("--json", folder / "choose.json", "--out", folder / "choose"),
        ),
        "compare": command(
            *("compare", "--models", "gmm,ppca,gaussian", "--data", data, "--epochs", 2, *given),
            *("--json", folder / "compare.json"),
        ),
        "train": command(*train, "--out", folder / "run"),
        "again": command(*train, "--out", folder / "run"),
    }
    if rank == 1:
        whole = batched_scoring.score_batch

        def fails(*args: Any) -> Any:
            raise NonFiniteError("The density of data point 7 is no number.")

        batched_scoring.score_batch = fails  # type: ignore[assignment]
    found["failed"] = command("evaluate", trained, *given)
    if rank == 1:
        batched_scoring.score_batch = whole
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    counted("chunks", batching, "Joint")
    counted("batches", batched_scoring, "score_batch")
    counted("trainings", fitting, "_train")
    counted("blocks", aggregate_posterior.Aggregate, "_blocks")
    folder = Path(sys.argv[1])
    with init_process_group():
        found = run(folder, sys.argv[2], sys.argv[3], ProcessGroup().rank)
        (folder / f"found-{ProcessGroup().rank}.json").write_text(json.dumps(found))
