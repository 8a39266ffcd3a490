"""pyrovae, by the function that everyone calls: `fit`. Its epochs are the rounds; the other peers work in its `on_epoch`."""

from collections.abc import Callable

import torch
from cases import LR, Case
from rounds import Rounds, Stopwatch

import pyrovae


def rounds_of_fit(
    case: Case,
    rounds: int,
    timed: Rounds,
    name: str,
    between: Callable[[], object],
    compile: bool | None,
    warm: int = 2,
) -> tuple[float, str]:
    """Time `rounds` epochs of a fit, calling `between` after each. Returns how long the first epoch took, compiling
    included, and how the fit says that its steps ran."""
    model, guide = case.pair()
    steps = len(case.data) // case.batch
    watch = Stopwatch()
    first = 0.0
    execution = ""

    def on_epoch(fit: pyrovae.FitResult) -> None:
        nonlocal watch, first, execution
        first, execution = first or watch.read()[0], fit.execution
        timed.add(name, watch, steps)
        with torch.enable_grad():
            between()
        watch = Stopwatch()

    pyrovae.fit(
        model, guide, case.data, epochs=warm + rounds, batch_size=case.batch, lr=LR, schedule=None, compile=compile,
        on_epoch=on_epoch,
    )  # fmt: skip
    timed.skip(warm)
    return first, execution
