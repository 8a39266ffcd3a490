"""The table of reconstruction errors: what stands beside log p(x), or in its place where a model has none."""

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from ..exploration import Reconstruction
from .comparison import titled


def reconstruction_table(results: Mapping[str, Reconstruction], without_density: Mapping[str, str], each: str) -> Table:
    """A line for each model: held-out mean squared error, its error over points, and explained variance.

    Args:
        results: What `exploration.reconstruct` returned, by the name of the model.
        without_density: Why some of them have no log p(x), by name.
        each: What the error is per: "pixel" or "column".
    """
    sheet = titled("reconstruction of held-out points, in the units of x")
    for heading in ("model", f"squared error\nper {each}", "± data", "explained\nvariance", "log p(x)"):
        sheet.add_column(heading, justify="left" if heading == "model" else "right", no_wrap=True)
    for name, result in results.items():
        sheet.add_row(
            Text(name),
            f"{result.mean_squared_error:.5f}",
            "?" if len(result.x) < 2 else f"{result.mean_squared_error_se:.5f}",
            f"{result.explained_variance:.1%}",
            "none" if name in without_density else "above",
        )
    return sheet


def reconstruction_sentence(result: Reconstruction, each: str) -> str:
    """The same numbers of one model in a sentence."""
    return (
        f"held-out reconstruction: squared error {result.mean_squared_error:.5f} ± {result.mean_squared_error_se:.5f} per {each}, "
        f"explained variance {result.explained_variance:.1%}"
    )
