"""evaluate(): log p(x) of a trained pair, point by point, in chunks that fit."""

import contextlib
import hashlib
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide
from torch import Tensor, nn

from . import evidence
from .errors import Refusal
from .evidence import Evidence
from .transforms import Transform
from .weights import Program, Structure, draw_weights, fork_rng, inspect, parameters, refuse_bad_points

# Numbers of x in flight: enough to keep a matrix product busy, few enough for caches. A draw of a discrete latent is one
# number, and picks from a table that is computed once for all draws.
NUMBERS = {"cpu": 2**20, "cuda": 2**27}
DISCRETE_ROWS = 2**16


def evaluate(
    model: Program,
    guide: Program,
    x: Tensor,
    samples: int = 1000,
    seed: int = 0,
    *,
    transform: Transform | None = None,
    progress: Any = None,
) -> Evidence:
    """An importance-weighted estimate of log p(x_n) for every row of x, with its error, beside the ELBO and the exact value.

    x is (N, ...), on the device and in the type of the pair's parameters. `transform` is what made x out of pixels, for bits
    per dimension. `progress` is called with the number of points done since its last call. Modules are put in evaluation
    mode and back; torch's random state is left as it was. Raises what `log_weights` raises.
    """
    if samples < 1:
        raise Refusal(f"samples must be at least 1; got {samples}.")
    refuse_bad_points(x)
    started = time.perf_counter()
    with evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device, seed):
        structure = inspect(model, guide, x)
        if transform is not None:
            refuse_measure(structure, transform)
        rows = max(1, NUMBERS.get(x.device.type, NUMBERS["cpu"]) // x[0].numel())
        if all(latent.classes is not None for latent in structure.latents):
            rows = max(rows, DISCRETE_ROWS)
        # an autoguide has parameters for each point of the full batch, which cannot be split
        batch = len(x) if isinstance(guide, AutoGuide) else max(1, min(len(x), rows // min(samples, 64)))
        parts: dict[str, list[Tensor]] = {}
        for points in x.split(batch):
            chunk = max(1, rows // len(points))
            sizes = [min(chunk, samples - done) for done in range(0, samples, chunk)]
            log_w = torch.cat([draw_weights(model, guide, points, size, structure.nesting) for size in sizes])
            for name in ("elbo", "elbo_se", "log_likelihood", "log_likelihood_se", "gap_se", "ess"):
                parts.setdefault(name, []).append(getattr(evidence, name)(log_w).cpu())
            if progress is not None:
                progress(len(points))
        exact = _exact(model, x, batch)
        jacobian = _log_jacobian(x, transform, structure.discrete)
        used = parameters(model, guide, x)
    return Evidence(
        **{name: torch.cat(values) for name, values in parts.items()},
        exact_log_likelihood=exact,
        log_jacobian=None if jacobian is None else jacobian.cpu(),
        samples=samples,
        dim=x[0].numel(),
        latent=", ".join(map(str, structure.latents)) or "none",
        parameters=sum(p.numel() for p in used),
        discrete=structure.discrete,
        points=fingerprint(x),
        seconds=time.perf_counter() - started,
        card={
            "samples": samples,
            "seed": seed,
            "points": len(x),
            "measure": _measure(structure, transform, x[0].numel()),
            "dtype": str(x.dtype).removeprefix("torch."),
            "device": device_name(x.device),
            **versions(),
        },
    )


def _exact(model: Program, x: Tensor, batch: int) -> Tensor | None:
    if not hasattr(model, "log_prob"):
        return None
    exact = torch.cat([model.log_prob(points) for points in x.split(batch)]).cpu()
    if exact.shape != (len(x),):
        raise Refusal(
            f"model.log_prob(x) has shape {tuple(exact.shape)}: it must be one number per point, ({len(x)},)."
        )
    return exact


def _log_jacobian(x: Tensor, transform: Transform | None, discrete: bool) -> Tensor | None:
    if transform is not None:
        return transform.log_jacobian(x)
    return x.new_zeros(len(x)) if discrete else None  # a probability of pixels is on the pixels' own scale


def _measure(structure: Structure, transform: Transform | None, dim: int) -> str:
    if transform is not None and transform.discrete == structure.discrete:
        return transform.measure(dim)
    return "counting measure" if structure.discrete else "Lebesgue measure"


def refuse_measure(structure: Structure, transform: Transform) -> None:
    """A density on R^D says nothing of {0, 1}^D, where it could be raised without bound. (A probability of real x needs no
    refusal here: such x are outside its support.)"""
    if transform.discrete and not structure.discrete:
        raise Refusal(
            f"The data are binary, {transform.space}, and the model is a density on R^D: choose a model of binary data "
            "(`pyrovae models` says which), or another transform."
        )


@contextlib.contextmanager
def evaluation_mode(*programs: Program) -> Iterator[None]:
    """Dropout off, batch statistics frozen; each module goes back to the mode it was in."""
    modules = [module for program in programs if isinstance(program, nn.Module) for module in program.modules()]
    before = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.training = training


def fingerprint(x: Tensor) -> str:
    """The first 12 hex digits of the SHA-256 of x's shape and values: the same points have the same fingerprint."""
    values = x.detach().to("cpu", torch.float64).contiguous().numpy()
    return hashlib.sha256(repr(tuple(x.shape)).encode() + values.tobytes()).hexdigest()[:12]


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def versions() -> dict[str, str]:
    """What computed a number: it belongs on the number's card."""
    packages = {"pyrovae": "pyrovae", "torch": "torch", "pyro": "pyro-ppl"}
    return {"python": platform.python_version(), **{name: version(package) for name, package in packages.items()}}
