"""Encoder and decoder of a pair as ONNX files, which programs without PyTorch compute."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ..errors import InvalidInputError
from ..exploration.latent_space import LatentSpace
from ..missing import assume_missing
from ..pair.execution import ModelOrGuide, evaluation_mode, isolated_parameters, modules, trace
from ..pair.latent_rows import decoded_site
from ..utils.files import replacing

__all__ = ["save_onnx"]

SAME = 1e-5  # largest difference from PyTorch, relative to the largest number
AFFINE = 1e-6  # relative difference below which a function is affine
POINTS = 11  # in the example that is recorded; the files take any number of rows
CHECKS = 7  # points at which a file must agree with PyTorch


def save_onnx(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, folder: str | Path) -> list[Path]:
    """Write encoder.onnx, x ↦ E[z|x], and decoder.onnx, z ↦ E[x|z].

    Both take any number of rows. z has the latents of `pyrovae.exploration.LatentSpace`, x the values that the model
    was trained on, after its transform. Each file is checked by onnxruntime against PyTorch, to 1e-5 of the largest
    number.

    Args:
        model: The model.
        guide: The guide.
        x: Points (N, D), of which some are used for the check.
        folder: Where the two files are written. It must exist.

    Returns:
        The two files.

    Raises:
        InvalidInputError: The pair has no continuous latents, or no mean in closed form. Or it uses an operation that
            ONNX lacks, or the libraries are not installed.

    Example:
        >>> import pyrovae, torch
        >>> model, guide = pyrovae.load("vae")(4, latent=2)
        >>> pyrovae.adapters.save_onnx(model, guide, torch.randn(20, 4), "runs/vae")  # doctest: +SKIP
    """
    for library in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(library)
        except ImportError as error:
            raise InvalidInputError(f"{library} is not installed: run pip install 'pyrovae[onnx]'.") from error
    space = LatentSpace(model, guide, x)
    if space.whole:
        raise InvalidInputError("The guide has parameters for each point, so there is no encoder to export.")
    x = x[:CHECKS]
    parts = {
        "encoder": (lambda rows: _encode(space, rows), x, space.encode(x)),
        "decoder": (lambda rows: _decode(space, rows), space.encode(x), space.decode(space.encode(x))),
    }
    graphs = {name: _graph(space, name, *part) for name, part in parts.items()}
    paths = []
    for name, graph in graphs.items():  # both or none
        with replacing(Path(folder) / f"{name}.onnx") as file:
            file.write_bytes(graph)
        paths.append(Path(folder) / f"{name}.onnx")
    return paths


class _MeansForDraws(Messenger):
    """Each latent gets its mean, so that nothing is random."""

    def _pyro_sample(self, msg: Any) -> None:
        if type(msg["fn"]).__name__ != "_Subsample" and not msg["is_observed"] and not msg["done"]:
            msg["value"], msg["done"] = msg["fn"].mean, True


def _encode(space: LatentSpace, x: Tensor) -> Tensor:
    """E[z|x]: (N, latents)."""
    with _MeansForDraws():
        run = trace("guide", space.guide, x).nodes
    means = [run[name]["fn"].mean for name in space.shapes]
    return means[0] if len(means) == 1 else torch.cat([mean.flatten(1) for mean in means], dim=1)


def _decode(space: LatentSpace, z: Tensor) -> Tensor:
    """E[x|z]: (N, D)."""
    with _MeansForDraws():
        mean: Tensor = decoded_site(space.model, space.rows(z), space.like, space.structure)["fn"].mean
    return mean


def _graph(
    space: LatentSpace, name: str, function: Callable[[Tensor], Tensor], rows: Tensor, expected: Tensor
) -> bytes:
    """The ONNX file of a function of rows, after a check. Raises `InvalidInputError`."""
    pair = space.model, space.guide
    with (
        torch.no_grad(),
        evaluation_mode(*pair),
        isolated_parameters(*pair),
        assume_missing(False),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            return _checked(_Rows(function, modules(*pair)), rows, expected)
        except Exception as error:  # torch raises many kinds for what it cannot export
            linear = _affine(function, rows, expected)
            if linear is not None:
                return _checked(linear, rows, expected)
            reason = _cause(error)
            raise InvalidInputError(
                f"The {name} cannot be exported: {reason}. Use PyTorch for it, "
                "or a guide and a likelihood with means in closed form."
            ) from error


class _Rows(nn.Module):
    """A function of rows, one row at a time: Pyro's plates then have a size that does not change."""

    def __init__(self, function: Callable[[Tensor], Tensor], parts: list[nn.Module]):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.function = torch.vmap(lambda row: function(row.unsqueeze(0))[0], randomness="same")

    def forward(self, rows: Tensor) -> Tensor:
        result: Tensor = self.function(rows)
        return result


def _affine(function: Callable[[Tensor], Tensor], rows: Tensor, expected: Tensor) -> nn.Module | None:
    """The function as one linear layer, if it is one: E[z|x] of PPCA, which solves a system of equations."""
    try:
        basis = torch.cat([torch.zeros_like(rows[:1]), torch.eye(rows.shape[1]).to(rows)])
        values = function(basis)
    except (InvalidInputError, NotImplementedError):
        return None
    layer = nn.Linear(rows.shape[1], expected.shape[1]).to(rows)
    layer.weight.copy_((values[1:] - values[0]).mT)
    layer.bias.copy_(values[0])
    near = float((layer(rows) - expected).abs().max()) <= AFFINE * (1 + float(values.abs().max()))
    return layer if near else None


def _checked(module: nn.Module, rows: Tensor, expected: Tensor) -> bytes:
    import onnxruntime

    example = rows[torch.arange(POINTS) % len(rows)].contiguous()
    sizes = ({0: torch.export.Dim("rows")},)
    before = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with pyro.validation_enabled(False):
            program = torch.export.export(module, (example,), dynamic_shapes=sizes, strict=False)
        exported: Any = torch.onnx.export(program, (example,), dynamo=True, verbose=False)
    finally:
        logging.getLogger("torch.onnx").setLevel(before)
    graph: bytes = exported.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: rows.cpu().numpy()})
    difference = float((torch.as_tensor(found) - expected.cpu()).abs().max())
    if not difference <= SAME * (1 + float(expected.abs().max())):
        raise InvalidInputError(f"onnxruntime computes other numbers, by up to {difference:.2g}")
    return graph


def _cause(error: BaseException) -> str:
    """The error that began it, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, NotImplementedError) and not str(error):
        return "a mean has no closed form"
    if "specialized it to be a constant" in str(error):
        return "its network depends on the number of rows, as one with .reshape(-1, ...) does"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}".rstrip(".")
