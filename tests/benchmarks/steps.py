"""Microseconds of one SVI step, beside others who compute the same: python tests/benchmarks/steps.py --threads 2

Same loss, same batch, same Adam. Before anything is timed the peers' losses at the start are held against one another.
"""

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--out", type=Path, help="JSON; by default results/steps-N-threads.json beside this file")
    return parser.parse_args()


def confine(threads: int) -> None:
    """To so many cores, before the libraries start their threads: JAX has no other way to say it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ["OMP_NUM_THREADS"] = str(threads)


def peers_of(case: Any) -> dict[str, Callable[[], Any]]:
    """All who compute this case's loss, each made when called. The first is the base."""
    from peers import by_hand
    from peers.stock import Stock

    loss = getattr(by_hand, case.kind)
    found: dict[str, Callable[[], Any]] = {
        "hand-written": lambda: by_hand.ByHand(case, loss),
        "stock Pyro": lambda: Stock(case),
        "hand-written, torch.compile": lambda: by_hand.ByHand(case, loss, {}),
    }
    if case.data.device.type == "cuda":
        found["hand-written, reduce-overhead"] = lambda: by_hand.ByHand(case, loss, {"mode": "reduce-overhead"})
    if case.kind == "ppca":  # not the same operations: no latent is drawn
        found["hand-written, marginal"] = lambda: by_hand.ByHand(case, by_hand.ppca_marginal)
    if case.kind == "mixture":
        found["hand-written, MultivariateNormal"] = lambda: by_hand.ByHand(case, by_hand.mixture_solving)
        plain = by_hand.plain_start(case)  # not the same operations: other parameters, and no floor
        found["hand-written, plain factor"] = lambda: by_hand.ByHand(case, by_hand.mixture_plain, start=plain)
    return found


def jax_peers_of(case: Any) -> dict[str, Callable[[], Any]]:
    """NumPyro, and the base of the ratios beside it. Its threads go on spinning when it is done, at torch's cost: it comes after all
    of torch's own rounds, and has rounds with pyrovae and the base, in which everyone rests a while after work."""
    from peers import by_hand
    from peers.in_numpyro import InNumPyro

    return {
        "hand-written": lambda: by_hand.ByHand(case, getattr(by_hand, case.kind)),
        "NumPyro, jit": lambda: InNumPyro(case, False),
        "NumPyro, lax.scan": lambda: InNumPyro(case, True),
    }


def disagreement(peers: dict[str, Any], x: Any, draws: int = 10) -> str | None:
    """Whose loss on x differs from the base's by more than 5 standard errors and rounding (single precision, 1e-4)."""
    found = {name: [peer.loss(x) for _ in range(draws)] for name, peer in peers.items()}
    base, its = next(iter(found.items()))
    for name, losses in found.items():
        error = ((statistics.variance(losses) + statistics.variance(its)) / draws) ** 0.5
        difference = statistics.mean(losses) - statistics.mean(its)
        if not abs(difference) <= 5 * error + 1e-4 * abs(statistics.mean(its)):
            return f"{name} and {base} differ by {difference:g} ± {error:g} nats of {statistics.mean(its):g}"
    return None


def base_measure(
    name: str, case: Any, made: dict[str, Callable[[], Any]], rounds: int, with_jax: bool
) -> dict[str, Any]:
    from peers.ours import rounds_of_fit
    from rounds import Rounds

    steps = len(case.data) // case.batch
    ready: dict[str, Any] = {}
    peers = {label: make() for label, make in made.items()}
    eager = {label: peer for label, peer in peers.items() if not getattr(peer, "compiled", False)}
    if wrong := disagreement(eager, case.data[: case.batch]):  # what is compiled is one of these
        raise SystemExit(f"{name}: {wrong}: a ratio would compare different things.")
    for label, peer in peers.items():
        started = time.perf_counter()
        peer.run(steps)
        ready[label] = time.perf_counter() - started
        print(f"  {label}: ready after {ready[label]:.1f} s", flush=True)
    runs = {label: (lambda peer=peer: peer.run(steps)) for label, peer in peers.items()}
    timed = Rounds(pause=0.1 if with_jax else 0.0)
    ready["pyrovae"], execution = rounds_of_fit(
        case, rounds, timed, "pyrovae", lambda: timed.once(runs, steps), compile=True
    )
    summary = timed.summary("hand-written")
    if not with_jax:
        base = {"hand-written": runs["hand-written"]}
        for label, compile in (("pyrovae, replayed", None), ("pyrovae, compile=False", False)):
            alone = Rounds()  # two fits cannot take turns: each has rounds of its own with the base
            rounds_of_fit(case, max(5, rounds // 3), alone, label, lambda alone=alone: alone.once(base, steps), compile)
            summary[label] = alone.summary("hand-written")[label]
    found = {
        "execution": execution,
        "steps a round": steps,
        "rounds": rounds,
        "ready after seconds": ready,
        "peers": summary,
    }
    if case.data.device.type == "cuda":
        found["share of kernels"] = {label: kernel_share(run) for label, run in runs.items()}
    return found


def kernel_share(run: Callable[[], object]) -> float:
    """The part of the time in which the GPU works: its kernels' time by the time on the wall."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    started = time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        run()
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in seen.key_averages()) / 1e6 / seconds


def main() -> None:
    given = arguments()
    confine(given.threads)
    import torch
    from cases import CASES, TARGETS
    from rounds import machine, show, table, write

    torch.set_num_threads(given.threads)
    results: dict[str, Any] = {"machine": machine(given.threads), "unit": "seconds a step", "cases": {}}
    out = given.out or Path(__file__).parent / "results" / f"steps-{given.threads}-threads.json"
    jax = importlib.util.find_spec("numpyro") is not None
    for with_jax in (False, True) if jax else (False,):
        for name, build in CASES.items():
            if given.only not in name:
                continue
            torch.manual_seed(0)
            torch.compiler.reset()
            case = _on(build(), given.device)
            peers = jax_peers_of(case) if with_jax else peers_of(case)
            found = base_measure(name, case, peers, given.rounds, with_jax)
            results["cases"].setdefault(name, {})["beside NumPyro" if with_jax else "torch"] = found
            title = f"{name}, threads: {given.threads}{', beside NumPyro' if with_jax else ''}"
            show(table(title, found["peers"], "hand-written", "µs a step", 1e6))
            ours, best = best_of(found["peers"])
            wanted = f"pyrovae {ours:.2f} (wanted ≤ {TARGETS[name]:.2f}), {found['execution']}; the best peer: {best}\n"
            print(wanted, flush=True)
            write(out, results)
    if not jax:
        print("NumPyro is not installed: pip install numpyro, to have it beside these.")


def _on(case: Any, device: str) -> Any:
    case.data = case.data.to(device)
    case.constants = {key: value.to(device) if hasattr(value, "to") else value for key, value in case.constants.items()}
    pair = case.pair

    def moved() -> tuple[Any, Any]:
        model, guide = pair()
        return model.to(device), guide.to(device) if hasattr(guide, "to") else guide

    case.pair = moved
    return case


def best_of(peers: dict[str, dict[str, float]]) -> tuple[float, str]:
    """pyrovae's ratio, and the fastest of the others who do the same."""
    others = {name: row["ratio"] for name, row in peers.items() if not name.startswith("pyrovae")}
    best = min(others, key=lambda name: others[name])
    return peers["pyrovae"]["ratio"], f"{best}, {others[best]:.2f}"


if __name__ == "__main__":
    main()
