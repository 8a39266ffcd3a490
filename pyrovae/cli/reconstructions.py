"""Reconstructions beside log p(x): of models that have no density, and of the others for comparison."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import GroupError, InvalidInputError, failure_message

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType

    from ..data.datasets import Data
    from ..exploration import Reconstruction
    from ..runs.run import Run

SHOWN = 24  # images of each model in the figure


def without_density(runs: Iterable["Run"]) -> dict[str, str]:
    """Why some of the runs have no log p(x), by name."""
    return {run.name: why for run in runs if (why := getattr(run.model, "no_density", ""))}


def train_without_density(runs: Iterable["Run"], train: Callable[["Run"], None]) -> dict[str, str]:
    """Train each run. Returns the names of those that failed, with a sentence each that says why."""
    failed: dict[str, str] = {}
    for run in runs:
        try:
            train(run)
        except GroupError:
            raise
        except Exception as error:
            message = failure_message(error)
            if message is None:
                raise
            failed[run.name] = message
    return failed


class Reconstructions:
    """The reconstructions of some runs on the same held-out points; those that cannot reconstruct are left out.

    There are none unless one of the runs has no log p(x): then its numbers need others beside them.
    """

    def __init__(self, runs: Iterable["Run"], data: "Data", seed: int):
        from ..exploration import reconstruct

        runs = list(runs)
        self.data = data
        self.without_density = without_density(runs)
        self.results: dict[str, Reconstruction] = {}
        for run in runs if self.without_density else ():
            try:
                self.results[run.name] = reconstruct(run.model, run.guide, data.test, seed)
            except InvalidInputError:  # a model without latents
                continue

    def tables(self) -> "list[RenderableType]":
        """What to print below the comparison: nothing where there are no reconstructions."""
        from ..tables.reconstruction import reconstruction_table

        if not self.results:
            return []
        return [reconstruction_table(self.results, self.without_density, per_what(self.data))]

    def to_dict(self) -> dict[str, Any]:
        return {
            name: {**result.to_dict(), "no_density": self.without_density.get(name)}
            for name, result in self.results.items()
        }

    def figures(self) -> "Mapping[str, Figure]":
        """Images above the reconstructions of each model, by the name of the file; none for tables."""
        from ..plots import samples_beside_data

        if not self.results or self.data.shape is None:
            return {}
        grey = self.data.transform.grey
        shown = {name: grey(result.reconstructed[:SHOWN]) for name, result in self.results.items()}
        return {
            "reconstructions.png": samples_beside_data(grey(self.data.test[:SHOWN].cpu()), shown, self.data.shape),
        }


def per_what(data: "Data") -> str:
    """What a mean over the numbers of one x is per."""
    return "column" if data.shape is None else "pixel"
