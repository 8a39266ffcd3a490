"""pyrovae gap: where the gap between log p(x) and the ELBO comes from."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from ...errors import Refusal, suggest
from ...evaluation.gap_decomposition import ESTIMATORS, Gaps
from ...evaluation.gap_decomposition import gap as find_gaps
from ...evaluation.result import Estimate
from ...plots.gap import gap_bars
from ...posterior.variational_families import DiagonalGaussian, Family, Flow, FullGaussian
from ...runs import run as runs
from ...tables.comparison import bounds_table, estimate_cells
from ..common import console, open_scored, progress_bars, refuse_unwritable, rows_at_random, write_json
from ..options import DeviceOption, JsonOption, NetcdfOption, OtherDataOption, RootOption, SeedOption, TransformOption

FAMILIES: dict[str, Callable[[], Family]] = {"diagonal": DiagonalGaussian, "full": FullGaussian, "flow": Flow}


def gap(
    run: Annotated[Path, typer.Argument(help="A folder that `pyrovae train --out` wrote.")],
    points: Annotated[int, typer.Option(min=2, help="How many of the held-out points, drawn at random.")] = 100,
    samples: Annotated[
        int, typer.Option(min=2, help="Latent draws for each point, of the guide and of the refined q.")
    ] = 5000,
    family: Annotated[
        str | None, typer.Option(help="Of the refined q: diagonal, full or flow [default: as the guide's own].")
    ] = None,
    ais: Annotated[
        bool, typer.Option(help="Add annealed importance sampling, the dearest and the surest estimate.")
    ] = True,
    chains: Annotated[int, typer.Option(min=2, help="Annealing chains for each point.")] = 16,
    steps: Annotated[int, typer.Option(min=1, help="Distributions that each chain passes.")] = 500,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    data: OtherDataOption = None,
    transform: TransformOption = None,
    root: RootOption = None,
    out: Annotated[Path | None, typer.Option(help="Write the figure there, a .png.")] = None,
    json_file: JsonOption = None,
    netcdf: NetcdfOption = None,
) -> None:
    """Split the gap between log p(x) and the ELBO: what the guide's family cannot reach, what its network loses."""
    chosen = family_of(family)
    for path in (out, json_file, netcdf):
        refuse_unwritable(path)
    restored, loaded = open_scored(run, device, data, transform, root)
    x = loaded.test
    if len(x) < 2:
        raise Refusal(f"{loaded.name} has {len(x)} held-out point: a mean with an error needs at least 2.")
    x = x[rows_at_random(x, points, seed).to(x.device)]
    with progress_bars() as progress:
        task = progress.add_task(f"gap {restored.name}", total=(3 if ais else 2) * len(x), note=f"{len(x)} points")
        found = find_gaps(
            restored.model,
            restored.guide,
            x,
            chosen,
            samples,
            seed,
            annealing=ais,
            chains=chains,
            steps=steps,
            progress=lambda amount: progress.advance(task, amount),
        )
    card = {**loaded.card(), **found.card}
    if json_file is not None:
        write_json(json_file, {**found.to_dict(), "name": restored.name, "card": card})
    if netcdf is not None:
        with runs.replacing(netcdf) as file:
            found.to_arviz().to_netcdf(str(file))
    if out is not None:
        figure = gap_bars({restored.name: found})
        with runs.replacing(out) as file:
            figure.savefig(file, dpi=150, format="png")
    show(restored.name, found, card, console())
    if out is not None:
        print(f"figure: {out}")


def family_of(name: str | None) -> Family | None:
    if name is None:
        return None
    if name not in FAMILIES:
        raise Refusal(f"There is no family '{name}'{suggest(name, FAMILIES)}: give diagonal, full or flow.")
    return FAMILIES[name]()


def show(name: str, found: Gaps, card: dict[str, Any], page: Console) -> None:
    """The table: from log p(x) down to the ELBO, and between them the gaps."""
    sheet = bounds_table(f"{name}: {len(found)} held-out points, nats per point")
    rows: list[tuple[str, Estimate | None, str]] = [
        ("exact log p(x)", found.mean_exact, "exact"),
        ("log p̂(x), the largest of:", found.mean_log_likelihood, ""),
        (f"  {ESTIMATORS[0]}", found.mean_weighted, found.bounds["weighted"]),
        (f"  {ESTIMATORS[1]}", found.mean_refined, found.bounds["refined"]),
        (f"  {ESTIMATORS[2]}", found.mean_annealed, found.bounds.get("annealed", "")),
        ("L[q*], refined per point", found.mean_refined_elbo, found.bounds["refined_elbo"]),
        ("L[q(z|x)], the guide's ELBO", found.mean_elbo, found.bounds["elbo"]),
    ]
    for label, mean, bound in rows:
        if mean is not None:
            sheet.add_row(Text(label), *estimate_cells(mean), bound)  # markup would swallow [q*]
    sheet.add_section()
    sheet.add_row(f"approximation gap ({found.family})", *estimate_cells(found.mean_approximation), "")
    sheet.add_row("amortisation gap (the network)", *estimate_cells(found.mean_amortisation), "")
    below = Text(
        f"{card['data']}; x = {card['transform']}; {card['samples']} draws; seed {card['seed']}; {card['dtype']} on {card['device']}; "
        f"{found.seconds:.0f} s; pyrovae {card['pyrovae']}, torch {card['torch']}",
        style="dim",
    )
    page.print(Group(sheet, Padding(Text(advice(found)), (0, 0, 1, 1)), Padding(below, (0, 0, 0, 1))))


def advice(found: Gaps) -> str:
    """What the split says is worth doing."""
    family, network = found.mean_approximation, found.mean_amortisation
    if network.value < -3 * max(network.mc_se, 1e-4):
        return (
            f"The refined q* is below the guide: the guide's family is wider than a {found.family}; refine in a wider one "
            "(--family full or flow)."
        )
    total = family.value + network.value
    if total < 3 * max(family.mc_se, network.mc_se, 1e-3):
        return "There is no gap to speak of: the guide is the posterior, as far as these numbers can tell."
    larger = max(family.value, network.value) / total
    if network.value >= family.value:
        return f"{larger:.0%} of the gap is the network's: a larger or longer-trained encoder, or refinement at evaluation, closes it."
    return f"{larger:.0%} of the gap is the family's: only a wider q closes it (a full covariance, a flow)."
