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
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Write encoder.onnx, x to E[z|x], and decoder.onnx, z to E[x|z].")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write to, which must exist [default: the run's].")
    ] = None,
) -> None:
    """Export a trained model for other programs.

    Name at least one kind of file.
    """
    if not (safetensors or onnx):
        raise InvalidInputError("Say what to export: --safetensors, --onnx, or both.")
    from ...adapters import save_onnx, save_safetensors
    from ...runs.run import data_of, load_run

    folder = run if out is None else out
    target = folder / "weights.safetensors"
    check_writable(target)
    restored = load_run(run)
    if onnx:
        encoder, decoder = save_onnx(restored.model, restored.guide, data_of(restored).test[:], folder)
        print(f"{restored.name}: E[z|x] in {encoder}, E[x|z] in {decoder}")
    if safetensors:
        save_safetensors(restored.model, restored.guide, target, restored.store)
        print(f"{restored.name}: parameters and buffers in {target}")
