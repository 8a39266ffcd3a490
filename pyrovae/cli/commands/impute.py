"""pyrovae impute: a file with its missing cells filled."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import InvalidInputError
from ...utils.files import replacing
from ..common import open_scored
from ..options import DeviceOption, RunArgument, SeedOption
from ..output import check_writable, write_csv, write_text

if TYPE_CHECKING:
    from torch import Tensor

    from ...data.datasets import Data
    from ...evaluation.imputation import Imputation


def impute_command(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="The file to write, of the same kind as the data file, or .npy.")],
    data: Annotated[
        Path | None, typer.Option(help="A file with missing cells [default: the file that the run was trained on].")
    ] = None,
    cells: Annotated[
        Path | None, typer.Option(help="Write mean and interval of each missing cell to this .csv file.")
    ] = None,
    draws: Annotated[Path | None, typer.Option(help="Write filled copies of the points to this .npy file.")] = None,
    num_draws: Annotated[int, typer.Option(min=1, help="With --draws: how many copies.")] = 20,
    level: Annotated[float, typer.Option(help="The probability of the intervals of --cells.")] = 0.9,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
) -> None:
    """Fill the missing cells of a file from a trained run.

    A cell gets its mean given the other cells of its row. All other cells stay as they are.
    """
    from ...data.builtin import NAMES
    from ...evaluation.imputing import impute
    from ...runs.run import load_run

    check_writable(out, cells, draws)
    config = load_run(run).config
    source = str(data) if data is not None else config.data
    if source in NAMES:
        raise InvalidInputError(f"{source} has no missing cells: name a file with --data.")
    for written in filter(None, (out, cells, draws)):
        if written.resolve() == Path(source).resolve():
            raise InvalidInputError(f"{written} is the file that is read, and would be lost: name another file.")
    restored, loaded = open_scored(run, device, source)
    filled = impute(restored.model, restored.guide, loaded.test, num_draws, seed, level=level)
    filled = filled.mapped(loaded.transform.to_source)
    dropped = (*config.reading.get("drop", ()), *filter(None, [config.reading.get("label")]))
    _write_points(out, Path(source), loaded, filled.mean, dropped)
    if cells is not None:
        write_csv(cells, _rows(filled, loaded))
    if draws is not None:
        _write_array(draws, filled.draws)
    how = "exact means" if filled.method == "exact" else f"means of weighted draws, ESS at least {filled.ess.min():.0f}"
    print(f"{int(filled.missing.sum())} of {filled.missing.numel()} cells filled by {restored.name} ({how}): {out}")


def _write_points(out: Path, source: Path, data: "Data", values: "Tensor", dropped: tuple[str, ...]) -> None:
    from ...data.filled_tables import filled_text

    if out.suffix == ".npy":
        _write_array(out, values)
    elif source.suffix in (".npy", ".npz"):
        raise InvalidInputError(f"{source} holds an array: name a .npy file with --out.")
    elif out.suffix == ".gz":
        raise InvalidInputError(f"{out} is compressed: name a .csv or .npy file with --out.")
    else:
        write_text(out, filled_text(source, data.column_names, dropped, values))


def _write_array(path: Path, values: "Tensor") -> None:
    import numpy

    if path.suffix != ".npy":
        raise InvalidInputError(f"{path} holds an array: name a .npy file.")
    with replacing(path) as file:
        numpy.save(file, values.numpy())


def _rows(filled: "Imputation", data: "Data") -> list[dict[str, object]]:
    """A row for each missing cell; one without numbers where there are none."""
    names = data.column_names or tuple(map(str, range(data.dim)))
    rows: list[dict[str, object]] = [
        {
            "row": row,
            "column": names[column],
            # the digits that the type has, 191.3002 and not 191.30020141601562
            **{name: str(getattr(filled, name)[row, column].numpy()) for name in ("mean", "lower", "upper")},
        }
        for row, column in filled.missing.nonzero().tolist()
    ]
    return rows or [dict.fromkeys(("row", "column", "mean", "lower", "upper"))]
