"""Numbers of a device beside those of the CPU in double precision, and beside what they must be by mathematics."""

import contextlib
import copy
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import torch
from every_pair import DIM, SCORED, build, label, points
from noise import NoiseOfTheProcessor
from pyro.infer import TraceGraph_ELBO
from torch import Tensor, nn

import pyrovae
from pyrovae.objectives import differentiable_loss, resolve_objective
from pyrovae.pair.execution import local_parameters
from pyrovae.pair.parameters import unconstrained_parameters
from pyrovae.pair.structure import inspect_pair
from pyrovae.utils.precision import reason_against

ROUNDING = 2e-4  # relative, of sums of some hundred numbers in single precision
GRADIENT_ROUNDING = 2e-3  # a gradient is a difference of larger numbers
EXACT = ("ppca", "gmm", "factor_analysis", "linear_vae")  # pairs with a log_prob of their own
FITTED = {"vae": {"latent": 2, "hidden": (8,)}, "ppca": {"latent": 2}, "gmm": {"components": 3}}

Pair = tuple[Any, Any]
Check = dict[str, Any]  # name, difference, tolerance, passed; or name and why it was not run


def on(pair: Pair, device: torch.device, dtype: torch.dtype = torch.float32) -> Pair:
    """A copy of the pair on that device."""
    model, guide = copy.deepcopy(pair)
    for half in (model, guide):
        if isinstance(half, nn.Module):
            half.to(device, dtype)
    return model, guide


def check(name: str, difference: float, tolerance: float) -> Check:
    return {"name": name, "difference": difference, "tolerance": tolerance, "passed": difference <= tolerance}


def relative(found: Tensor, expected: Tensor) -> float:
    """‖found − expected‖ / ‖expected‖, after a move to the CPU in double precision."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    return float((found - expected).norm() / expected.norm().clamp(min=1e-12))


def started(name: str, options: dict[str, Any]) -> Pair:
    """A pair near its start from data, on the CPU, the same at each call. At the start itself a gradient may be zero."""
    torch.manual_seed(0)
    model, guide = build(name, options)
    if hasattr(model, "initialise"):
        model.initialise(points(name, options))
    with torch.no_grad():
        for parameter in dict.fromkeys([*_parameters(model), *_parameters(guide)]):  # a guide may share some
            parameter += 0.05 * torch.randn_like(parameter)
    return model, guide


def _parameters(half: Any) -> list[Tensor]:
    return list(half.parameters()) if isinstance(half, nn.Module) else []


def loss_and_gradient(pair: Pair, x: Tensor, seed: int = 1) -> tuple[Tensor, Tensor] | str:
    """−ELBO of the points, and its gradient, with noise that is the same for every device; or why there is none."""
    model, guide = pair
    structure = inspect_pair(model, guide, x, scored=False)
    objective = resolve_objective(guide, structure)
    if isinstance(objective, TraceGraph_ELBO):
        return "its gradient is Pyro's own"
    terms = differentiable_loss(objective, model, guide, x, structure)
    if isinstance(terms, str):
        return terms
    with local_parameters(model, guide), pyro.validation_enabled(False):
        leaves = unconstrained_parameters(x, guide, model)
        torch.manual_seed(seed)
        with NoiseOfTheProcessor():
            loss = terms(model, guide, x).loss
        parts = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    return loss.detach(), torch.cat([part.reshape(-1) for part in parts])


def same_losses_and_gradients(device: torch.device, cases: list[Any]) -> Iterator[Check]:
    """Of every pair under every guide: a step on the device, and the same in double precision on the CPU."""
    for name, options in cases:
        title, x = f"{name}, {label(options)}", points(name, options)
        pair = started(name, options)
        expected = loss_and_gradient(on(pair, torch.device("cpu"), torch.float64), x.double())
        if isinstance(expected, str):
            yield {"name": f"loss of {title}", "not run": expected}
            continue
        found = loss_and_gradient(on(pair, device), x.to(device))
        assert not isinstance(found, str)
        yield check(f"loss of {title}", relative(found[0], expected[0]), ROUNDING)
        yield check(f"gradient of {title}", relative(found[1], expected[1]), GRADIENT_ROUNDING)


def same_log_weights(device: torch.device, cases: list[Any]) -> Iterator[Check]:
    """Of every pair: log-weights of the same draws, nats."""
    for name, options in cases:
        x, found = points(name, options), []
        for place, dtype in ((torch.device("cpu"), torch.float64), (device, torch.float32)):
            pair = on(started(name, options), place, dtype)
            inspect_pair(*pair, x.to(place, dtype))
            torch.manual_seed(1)
            with NoiseOfTheProcessor(), torch.no_grad():
                found.append(pyrovae.log_weights(*pair, x.to(place, dtype), 3))
        yield check(f"log-weights of {name}, {label(options)}", relative(found[1], found[0]), ROUNDING)


def same_estimates(device: torch.device) -> Iterator[Check]:
    """`evaluate` with the same draws: its estimates, nats."""
    for name in ("vae", "gmvae"):
        x, found = points(name), []
        for place, dtype in ((torch.device("cpu"), torch.float64), (device, torch.float32)):
            pair = on(started(name, {}), place, dtype)
            with NoiseOfTheProcessor():
                found.append(pyrovae.evaluate(*pair, x.to(place, dtype), 200, compile=False, progress=False))
        for statistic in ("log_likelihood", "elbo", "log_likelihood_se", "ess"):
            one, other = (getattr(evidence, statistic) for evidence in found)
            yield check(f"{statistic} of {name}", relative(other, one), 10 * ROUNDING)


def identities(device: torch.device) -> Iterator[Check]:
    """Under an exact guide every log-weight is log p(x); and about its modes a VAE has the CPU's log p(x)."""
    for name in EXACT:
        x, pair = points(name), started(name, {})
        exact = on(pair, torch.device("cpu"), torch.float64)[0].log_prob(x.double())
        model, guide = on(pair, device)
        yield check(f"log p(x) of {name} by its formula", relative(model.log_prob(x.to(device)), exact), ROUNDING)
        if name in ("ppca", "gmm"):
            log_w = pyrovae.log_weights(model, guide, x.to(device), 3)
            yield check(f"log-weights of {name}, exact guide", relative(log_w, exact.expand_as(log_w)), 10 * ROUNDING)
    x, pair = points("ppca", count=8), started("ppca", {})
    exact = on(pair, torch.device("cpu"), torch.float64)[0].log_prob(x.double()).detach()
    annealed = pyrovae.ais(*on(pair, device), x.to(device), num_chains=16, num_temperatures=50, progress=False)
    worst = ((annealed.log_likelihood - exact) / (annealed.log_likelihood_se + 0.02)).abs().max()
    yield check("log p(x) of ppca by annealing, in standard errors", float(worst), 6.0)
    x, found = points("vae", count=8), []
    for place, dtype in ((torch.device("cpu"), torch.float64), (device, torch.float32)):
        found.append(pyrovae.evaluate(*on(started("vae", {}), place, dtype), x.to(place, dtype), progress=False))
    cpu, own = found
    errors = (cpu.log_likelihood_se.square() + own.log_likelihood_se.square() + 1e-6).sqrt()
    worst = ((own.log_likelihood - cpu.log_likelihood) / errors).abs().max()
    yield check("log p(x) of vae about its modes, in standard errors", float(worst), 6.0)


def fits(device: torch.device, names: list[str], kinds: dict[str, bool | None]) -> Iterator[Check]:
    """Steps that Pyro runs, steps that are replayed and steps that are compiled have one loss, in double precision."""
    for name in names:
        losses: dict[str, list[float]] = {}
        for kind, compile in kinds.items():
            result = fit_of(name, device, compile=compile, epochs=30)
            losses[kind] = result.losses
            expected = {"eager": "eager", "replayed": "replayed", "compiled": "graph" if device.type == "cuda" else ""}
            if expected[kind] not in result.execution:
                yield {"name": f"{kind} steps of {name}", "passed": False, "execution": result.execution}
        first, *others = losses
        for kind in others:
            one, other = (torch.tensor(losses[each]) for each in (first, kind))
            yield check(f"losses of {name}, {kind}", relative(other, one), 1e-6)
        again = torch.tensor(fit_of(name, device, compile=compile, epochs=30).losses)
        yield check(f"losses of {name}, a second time", float((again - torch.tensor(losses[kind])).abs().max()), 0.0)


def fit_of(name: str, device: torch.device, **options: Any) -> pyrovae.FitResult:
    torch.manual_seed(0)
    pair = on(pyrovae.load(name)(DIM, **FITTED[name]), device, torch.float64)
    x = points(name).to(device, torch.float64)
    given = {"batch_size": 12, "max_grad_norm": 50.0, "ema_decay": 0.9, **options}
    return pyrovae.fit(*pair, x, progress=False, **given)


def resumed(device: torch.device) -> Iterator[Check]:
    """A training that is resumed ends where the one that went through does."""
    whole = fit_of("vae", device, epochs=8)
    with tempfile.TemporaryDirectory() as folder:

        class Stop(Exception):
            pass

        def stop(result: pyrovae.FitResult) -> None:
            if len(result.losses) == 5:
                raise Stop

        with contextlib.suppress(Stop):
            fit_of("vae", device, epochs=8, checkpoints=pyrovae.Checkpoints(folder, interval=-1.0), on_epoch=stop)
        own = fit_of("vae", device, epochs=8, checkpoints=pyrovae.Checkpoints(folder, resume=True))
    yield check("losses of a resumed training", relative(torch.tensor(own.losses), torch.tensor(whole.losses)), 1e-9)


def precisions(device: torch.device) -> Iterator[Check]:
    """Low precision moves losses by little: bfloat16 has 8 bits, TF32 11."""
    losses = {}
    for precision in ("fp32", "tf32", "bf16"):
        torch.manual_seed(0)
        pair = on(pyrovae.load("vae")(DIM, **FITTED["vae"]), device)
        x = points("vae", count=240).to(device)
        try:
            result = pyrovae.fit(*pair, x, epochs=4, batch_size=24, precision=precision, progress=False)
        except pyrovae.InvalidInputError as error:
            yield {"name": f"losses in {precision}", "not run": str(error)}
            continue
        losses[precision] = torch.tensor(result.losses)
        if precision != "fp32":
            difference = float((losses[precision] - losses["fp32"]).abs().max())
            yield check(f"losses in {precision}, nats", difference, 0.2)
    reason = reason_against(device, torch.bfloat16)
    if reason is not None:
        yield {"name": "weights screened in bfloat16", "not run": reason}
        return
    pair, x = on(started("vae", {}), device), points("vae").to(device)
    full, screened = (
        pyrovae.evaluate(*pair, x, 500, low_precision=dtype, progress=False) for dtype in (None, torch.bfloat16)
    )
    difference = float((full.log_likelihood - screened.log_likelihood).abs().max())
    yield check("log p(x) by weights screened in bfloat16, nats", difference, 0.02)


def memory_runs_out(device: torch.device) -> Iterator[Check]:
    """With little memory, chunks are halved and the numbers stay."""
    name = "log p(x) where memory runs out, nats"
    if device.type != "cuda":
        yield {"name": name, "not run": "it needs a GPU's limit on memory"}
        return
    pair, x = on(started("vae", {}), device), points("vae", count=5000).to(device)
    full = pyrovae.evaluate(*pair, x, 1000, compile=False, progress=False)
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated(device) + 2**27) / total, device)
    try:
        little = pyrovae.evaluate(*pair, x, 1000, compile=False, progress=False)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    errors = (full.log_likelihood_se.square() + little.log_likelihood_se.square() + 1e-6).sqrt()
    worst = ((full.log_likelihood - little.log_likelihood) / errors).abs().max()
    yield check("log p(x) where memory runs out, in standard errors", float(worst), 6.0)


def no_waiting(device: torch.device) -> Iterator[Check]:
    """A step that is a CUDA graph never waits for the GPU: torch raises where the host would."""
    name = "steps without a wait for the GPU"
    if device.type != "cuda":
        yield {"name": name, "not run": "it needs a GPU"}
        return
    from pyrovae.training import trainer

    waits = 0
    step = trainer.Trainer._step

    def watched(self: Any, x: Tensor) -> Tensor:
        nonlocal waits
        if self.result.steps < 5:  # in which it is recorded and compiled
            return step(self, x)
        torch.cuda.set_sync_debug_mode("error")
        try:
            return step(self, x)
        except RuntimeError:
            waits += 1
            torch.cuda.set_sync_debug_mode("default")
            return step(self, x)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    trainer.Trainer._step = watched  # type: ignore[method-assign]
    try:
        fit_of("vae", device, compile=True, epochs=10)
    finally:
        trainer.Trainer._step = step  # type: ignore[method-assign]
    yield check(name, float(waits), 0.0)


def all_checks(device: torch.device, small: bool, compile: bool) -> dict[str, Callable[[], Iterator[Check]]]:
    """Each group of checks, to be run when called. `compile`: whether compiled steps are among them."""
    cases = [case for case in SCORED if case[0] in FITTED and not case[1]] if small else SCORED
    names = ["vae"] if small else list(FITTED)
    kinds: dict[str, bool | None] = {"eager": False, "replayed": None} | ({"compiled": True} if compile else {})
    return {
        "losses and gradients": lambda: same_losses_and_gradients(device, cases),
        "log-weights": lambda: same_log_weights(device, cases),
        "estimates": lambda: same_estimates(device),
        "identities": lambda: identities(device),
        "fits": lambda: fits(device, names, kinds),
        "resumed": lambda: resumed(device),
        "precisions": lambda: precisions(device),
        "memory": lambda: memory_runs_out(device),
        "waits": lambda: no_waiting(device),
    }


def summary(checks: list[Check]) -> dict[str, Any]:
    """How many passed, the worst share of a tolerance, and all that failed."""
    compared = [each for each in checks if "tolerance" in each]
    shares = [each["difference"] / each["tolerance"] for each in compared if each["tolerance"] > 0]
    return {
        "passed": sum(each.get("passed", False) for each in checks),
        "failed": [each for each in checks if not each.get("passed", True)],
        "not run": [each for each in checks if "not run" in each],
        "largest share of a tolerance": max(shares, default=None),
    }
