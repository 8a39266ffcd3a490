"""Seconds, memory and the share of what the hardware can do: a step, a training, 5,000 weights a point."""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cases
import steps
import torch
from torch import Tensor, nn

import pyrovae

DIM, LATENT, HIDDEN = 784, 50, (200, 200)
SAMPLES, TOLERANCE, MAX_FIRST_SECONDS = 5000, 0.05, 30.0
GOALS = {"5,000 weights": 2.0, "to a tolerance": 20.0}  # seconds, of 10,000 images on an H200

Results = dict[str, Any]


def images(count: int) -> tuple[Tensor, str]:
    """Binary images of 784 pixels, and what they are: MNIST where $PYROVAE_DATA has it, else random ones."""
    if os.environ.get("PYROVAE_DATA"):
        try:
            data = pyrovae.load_data("mnist")
        except pyrovae.InvalidInputError as error:
            why = str(error)
        else:
            return (torch.cat([data.train, data.test])[:count] > 0.5).float(), "MNIST, pixels above 1/2"
    else:
        why = "$PYROVAE_DATA is not set"
    generator = torch.Generator().manual_seed(0)
    ink = torch.rand(DIM, generator=generator) ** 2
    return (torch.rand(count, DIM, generator=generator) < ink).float(), f"random images, because {why}"


def seconds_of(work: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    wait(device)
    begun = time.perf_counter()
    result = work()
    wait(device)
    return result, time.perf_counter() - begun


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory_of(device: torch.device) -> Callable[[], float | None]:
    """How much memory of the GPU, in GiB, has been in use at once since this was called."""
    if device.type != "cuda":
        return lambda: None
    torch.cuda.reset_peak_memory_stats(device)
    return lambda: torch.cuda.max_memory_allocated(device) / 2**30


def limits(device: torch.device, small: bool) -> Results:
    """What the device reaches here: floating-point operations a second of a matrix product, bytes a second of a copy."""
    size, found = (256 if small else 8192), {}
    before = torch.get_float32_matmul_precision()
    for name, dtype in (("float32", torch.float32), ("tf32", torch.float32), ("bfloat16", torch.bfloat16)):
        torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
        a = torch.ones(size, size, device=device, dtype=dtype)
        found[f"{name} products, flop/s"] = 2 * size**3 / typical(lambda a=a: a @ a, device)
    torch.set_float32_matmul_precision(before)
    block = torch.ones((1 if small else 64) * 2**20, device=device)
    target = torch.empty_like(block)
    found["copy, bytes/s"] = 2 * 4 * block.numel() / typical(lambda: target.copy_(block), device)
    return found


def typical(work: Callable[[], Any], device: torch.device, rounds: int = 5) -> float:
    """The median seconds of a few rounds, after one that is not counted."""
    return statistics.median([seconds_of(work, device)[1] for _ in range(1 + rounds)][1:])


def weights_of(*networks: nn.Module) -> int:
    """How many numbers the weight matrices of networks have: half the operations of a row."""
    return sum(layer.weight.numel() for each in networks for layer in each.modules() if isinstance(layer, nn.Linear))


def share_of_roofline(flops: float, moved: float, seconds: float, limit: Results, kind: str = "float32") -> Results:
    """The least seconds that products and memory allow, and their share of those it took."""
    by = {"products": flops / limit[f"{kind} products, flop/s"], "memory": moved / limit["copy, bytes/s"]}
    bound = max(by, key=by.__getitem__)
    return {"least seconds": by[bound], "bound by": bound, "share of the roofline": by[bound] / seconds}


def vae(device: torch.device, small: bool) -> tuple[Any, Any]:
    torch.manual_seed(0)
    options = {"latent": 5, "hidden": (16,)} if small else {"latent": LATENT, "hidden": HIDDEN}
    model, guide = pyrovae.load("vae")(DIM, likelihood=pyrovae.likelihoods.Bernoulli(), **options)
    return model.to(device), guide.to(device)


PRECISIONS = {"fp32": "float32", "tf32": "tf32", "bf16": "bfloat16"}


def training(device: torch.device, small: bool, limit: Results, pair: Any, precision: str) -> Results:
    """A whole training of the VAE, all set-up included."""
    count, batch, epochs = (300, 25, 5) if small else (60_000, 128, 20)
    x, data = images(count)
    x, memory = x.to(device), memory_of(device)

    def fit() -> pyrovae.FitResult:
        return pyrovae.fit(*pair, x, epochs=epochs, batch_size=batch, precision=precision, progress=False)

    about: Results = {"data": data, "points": count, "batch": batch, "epochs": epochs}
    try:
        result, seconds = seconds_of(fit, device)
    except pyrovae.InvalidInputError as error:
        return {**about, "not run": str(error)}
    weights = weights_of(pair[0].decoder, pair[1].encoder)
    size = sum(p.numel() for half in pair for p in half.parameters())
    flops, moved = 6.0 * weights * batch * result.steps, 4.0 * (7 * size + 2 * batch * DIM) * result.steps
    first = result.history[0]["seconds"]
    return {
        **about,
        "seconds": seconds,
        "steps": result.steps,
        "execution": result.execution,
        "ELBO of the last epoch": result.history[-1]["elbo"],
        "seconds of the first epoch": first,
        "seconds a step after it": (result.seconds - first) / (result.steps * (epochs - 1) / epochs),
        "peak GiB": memory(),
        **share_of_roofline(flops, moved, seconds, limit, PRECISIONS[precision]),
    }


WAYS: dict[str, Results] = {
    "5,000 weights": {},
    "5,000 weights, bfloat16 screen": {"low_precision": torch.bfloat16},
    "to a tolerance": {"tolerance": TOLERANCE},
}


def evidence(device: torch.device, small: bool, limit: Results, pair: Any, way: str) -> Results:
    """log p̂(x) of 10,000 images in one of these ways, a first time and once more, if that does not take long."""
    count, samples = (8, 200) if small else (10_000, SAMPLES)
    x, data = images(60_000 + count)
    x, memory = x[-count:].to(device), memory_of(device)
    options = WAYS[way] if way == "to a tolerance" else {"num_samples": samples, **WAYS[way]}

    def work() -> pyrovae.Evidence:
        return pyrovae.evaluate(*pair, x, progress=False, **options)

    result, first = seconds_of(work, device)
    seconds = first
    if first < MAX_FIRST_SECONDS:
        result, seconds = seconds_of(work, device)
    row: Results = {
        "data": data,
        "points": count,
        "seconds": seconds,
        "goal, seconds": GOALS.get(way),
        "first time": first,
        "peak GiB": memory(),
        "mean log p(x)": result.mean_log_likelihood.value,
        "dtype": result.metadata["dtype"],
        "reliability": result.reliability,
    }
    if way == "to a tolerance":
        within = (result.log_likelihood_se <= TOLERANCE).double().mean()
        return row | {"points within the tolerance": float(within)}
    rows = count * samples
    flops, moved = 2.0 * rows * weights_of(pair[0].decoder), 2.0 * 4 * rows * DIM
    kind = "bfloat16" if "bfloat16" in result.metadata["dtype"] else "float32"
    return row | {"samples": samples} | share_of_roofline(flops, moved, seconds, limit, kind)


def step_cases(small: bool) -> dict[str, Callable[[], Any]]:
    """What is timed: of the benchmark's cases those whose step is short, and one that is long."""
    if small:
        return {"PPCA D=64 k=8, B=32": lambda: cases.ppca(32, 4)}
    chosen = ("VAE 784-200-200-50, B=100", "PPCA D=64 k=8, B=256", "mixture D=64 K=10 full, B=256")
    return {name: cases.CASES[name] for name in (*chosen, "VAE 784-200-200-50, B=1024")}


def one_step(name: str, build: Callable[[], Any], device: torch.device, small: bool) -> Results:
    """A step beside the same maths by hand: eager, compiled, and by torch's own CUDA graphs."""
    torch.manual_seed(0)
    torch.compiler.reset()
    case = steps._on(build(), str(device))
    return steps.base_measure(name, case, steps.peers_of(case), 2 if small else 15, with_jax=False)


def card(device: torch.device) -> Results:
    """What it was run on."""
    from rounds import machine

    found = dict(machine(torch.get_num_threads()))
    found["cuda"] = torch.version.cuda
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["memory, GiB"] = properties.total_memory / 2**30
        found["compute capability"] = f"{properties.major}.{properties.minor}"
        found["gpu"] = properties.name
    return found


def default_file(device: torch.device) -> Path | None:
    """Where results go if nothing else is said: with the card's name, beside those of the other benchmarks."""
    if device.type != "cuda":
        return None
    name = "-".join(torch.cuda.get_device_name(device).lower().split())
    return Path(__file__).parents[1] / "benchmarks" / "results" / f"gpu-{name}.json"
