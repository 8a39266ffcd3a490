"""What `compare --decide` adds: the checks of its options, and the decision under a progress bar."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from ..errors import InvalidInputError
from .common import options_given
from .output import progress_bars

if TYPE_CHECKING:
    from torch import Tensor

    from ..evaluation.comparison import Comparison
    from ..evaluation.deciding import Decision
    from ..evaluation.trained_pair import Pair


def check_decision_options(context: typer.Context) -> None:
    """Raise `InvalidInputError` for options that mean nothing without --decide, or that it cannot stand beside."""
    given = context.params
    if not given["decide"]:
        if lone := options_given(context, lambda option: option in ("tie_tolerance", "error_rate")):
            raise InvalidInputError(f"{', '.join(lone)} say how an order is decided: add --decide.")
        return
    if given["train_seeds"] is not None:
        raise InvalidInputError("An order is of one training of each pair: leave out --train-seeds, or --decide.")
    if limits := options_given(context, lambda option: option in ("max_draws", "max_seconds")):
        raise InvalidInputError(f"--decide adds draws until the order is known: leave out {', '.join(limits)}.")
    if given["num_samples"] is not None and given["tolerance"] is None:
        raise InvalidInputError("An order needs log p(x) to a tolerance: leave out --num-samples, or add --tolerance.")
    from ..statistics.sequential import SequentialOrder

    SequentialOrder((), given["tie_tolerance"], given["error_rate"])  # its checks, before an hour of work


def decide_with_progress(
    comparison: "Comparison",
    pairs: Mapping[str, "Pair"],
    x: "Tensor",
    seed: int,
    tie_tolerance: float,
    error_rate: float,
) -> "Decision":
    """`decide`, under a bar for each look."""
    from ..evaluation.deciding import decide

    with progress_bars() as progress:

        def on_look(look: int, names: list[str]) -> None:
            progress.add_task(f"look {look}", total=None, note=", ".join(names))

        return decide(comparison, pairs, x, seed, tie_tolerance=tie_tolerance, error_rate=error_rate, on_look=on_look)
