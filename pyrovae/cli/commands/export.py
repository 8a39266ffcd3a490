"""pyrovae export: a trained pair as files that other programs read."""

from pathlib import Path
from typing import Annotated

import typer

from ...errors import InvalidInputError
from ..options import RunArgument
from ..output import check_writable


def export_command(
    run: RunArgument,
    safetensors: Annotated[
        bool, typer.Option("--safetensors", help="Write all parameters and buffers to weights.safetensors.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write to, which must exist [default: the run's].")
    ] = None,
) -> None:
    """Export a trained model for other programs.

    Name at least one kind of file.
    """
    if not safetensors:
        raise InvalidInputError("Say what to export: --safetensors.")
    from ...adapters.safetensors_files import save_safetensors
    from ...runs.run import load_run

    folder = run if out is None else out
    target = folder / "weights.safetensors"
    check_writable(target)
    restored = load_run(run)
    save_safetensors(restored.model, restored.guide, target, restored.store)
    print(f"{restored.name}: parameters and buffers in {target}")
