"""Trainings that several processes share: each trains whole pairs by itself, so that the numbers are those of one process."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import GroupError, failure_message

if TYPE_CHECKING:
    import torch

    from ..runs.run import Run


def share_trainings(
    runs: Sequence["Run"], train: Callable[["Run"], None], device: "torch.device"
) -> Callable[["Run"], None]:
    """Train runs, one in each process at a time, and give every process the parameters of all.

    Returns what stands for `train` afterwards: it raises what the training of a run has raised. One process trains
    nothing here, and gets `train` back.
    """
    from ..pair.state import load_pair_state, pair_state
    from ..utils.distributed import ProcessGroup, alone

    group = ProcessGroup()
    if group.count == 1 or not runs:
        return train

    def own_part() -> dict[str, Any]:
        outcomes: dict[str, Any] = {}
        with alone():
            for run in runs[group.rank :: group.count]:
                try:
                    train(run)
                    outcomes[run.name] = pair_state(run.model, run.guide, run.store), run.fit_result
                except GroupError:
                    raise
                except Exception as error:
                    if failure_message(error) is None:
                        raise
                    outcomes[run.name] = error
        return outcomes

    outcomes = {name: outcome for part in group.collect(own_part, device) for name, outcome in part.items()}
    for run in runs:
        if not isinstance(outcomes[run.name], Exception):
            state, run.fit_result = outcomes[run.name]
            load_pair_state(state, run.model, run.guide)

    def finished(run: "Run") -> None:
        if isinstance(outcomes.get(run.name), Exception):
            raise outcomes[run.name]

    return finished
