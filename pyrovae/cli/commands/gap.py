"""pyrovae gap: where the gap between log p(x) and the ELBO comes from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import InvalidInputError, did_you_mean
from ..common import open_scored
from ..options import (
    DeviceOption,
    JsonOption,
    NetcdfOption,
    OtherDataOption,
    RootOption,
    RunArgument,
    SeedOption,
    TransformOption,
)
from ..output import check_figure, check_writable, console, progress_bars, save_figure, write_json, write_netcdf

if TYPE_CHECKING:
    from ...posterior.variational_families import VariationalFamily


def gap_command(
    run: RunArgument,
    points: Annotated[int, typer.Option(min=2, help="How many of the test points, chosen at random.")] = 100,
    num_samples: Annotated[
        int, typer.Option(min=2, help="Draws for each point, of the guide and of the refined q.")
    ] = 5000,
    family: Annotated[
        str | None, typer.Option(help="Family of the refined q: diagonal, full or flow [default: like the guide].")
    ] = None,
    ais: Annotated[
        bool | None,
        typer.Option(help="Add annealed importance sampling [default: only if no better estimate of log p(x) exists]."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Where q and chains begin: posterior, guide or prior [default: the first that is possible]."),
    ] = None,
    ais_chains: Annotated[int, typer.Option(min=2, help="Annealing chains for each point.")] = 16,
    ais_steps: Annotated[
        int | None, typer.Option(min=1, help="Temperatures of each chain [default: 100 from the posterior, else 1000].")
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    data: OtherDataOption = None,
    transform: TransformOption = None,
    root: RootOption = None,
    out: Annotated[Path | None, typer.Option(help="Write the figure to this .png, .svg or .pdf file.")] = None,
    json_file: JsonOption = None,
    netcdf: NetcdfOption = None,
) -> None:
    """Split the gap between log p(x) and the ELBO.

    One part is what the family of the guide cannot reach, the other is what its network loses.
    """
    from ...evaluation.gap_decomposition import gap, needs_annealing
    from ...tables.gap import show
    from ...utils.random import random_rows

    variational_family = family_of(family)
    check_figure(out)
    check_writable(out, json_file, netcdf)
    restored, loaded = open_scored(run, device, data, transform, root)
    x = loaded.test
    if len(x) < 2:
        raise InvalidInputError(f"{loaded.name} has {len(x)} held-out point: a mean with an error needs at least 2.")
    x = x[random_rows(x, points, seed).to(x.device)]
    anneals = needs_annealing(restored.model, restored.guide, x) if ais is None else ais
    with progress_bars() as progress:
        task = progress.add_task(f"gap {restored.name}", total=(3 if anneals else 2) * len(x), note=f"{len(x)} points")
        result = gap(
            restored.model,
            restored.guide,
            x,
            variational_family,
            num_samples,
            seed,
            start=start,
            annealing=anneals,
            num_chains=ais_chains,
            num_temperatures=ais_steps,
            transform=loaded.transform,
            on_progress=lambda amount: progress.advance(task, amount),
        )
    metadata = {**loaded.metadata(), **result.metadata}
    if json_file is not None:
        write_json(json_file, {**result.to_dict(), "name": restored.name, "metadata": metadata})
    if netcdf is not None:
        write_netcdf(netcdf, result.to_arviz())
    if out is not None:
        from ...plots import gap_bars, note

        figure = note(gap_bars({restored.name: result}), (loaded.name, restored.name, f"seed {seed}"))
        save_figure(out, figure)
    show(restored.name, result, metadata, console())
    if out is not None:
        print(f"figure: {out}")


def family_of(name: str | None) -> "VariationalFamily | None":
    """Return the family that `--family` names."""
    from ...posterior.variational_families import DiagonalGaussian, FlowFamily, FullGaussian, VariationalFamily

    families: dict[str, type[VariationalFamily]] = {
        "diagonal": DiagonalGaussian,
        "full": FullGaussian,
        "flow": FlowFamily,
    }
    if name is None:
        return None
    if name not in families:
        raise InvalidInputError(
            f"There is no family '{name}'{did_you_mean(name, families)}: give diagonal, full or flow."
        )
    return families[name]()
