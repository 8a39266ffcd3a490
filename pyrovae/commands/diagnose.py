"""pyrovae diagnose: which latents a trained pair uses, and whether its prior draws where its encodings are."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from matplotlib.figure import Figure
from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from torch import Tensor

from .. import plots_diagnosis as plots
from .. import runs
from ..datasets import Data
from ..diagnosis import ACTIVE, Diagnosis
from ..errors import Refusal
from ..estimators.aggregate import decode
from ..estimators.diagnose import diagnose as look
from ..estimators.holes import TAIL, Share
from ..evidence import Estimate
from ..running import evaluation_mode, fork_rng
from ..structure import inspect
from .common import console, open_scored, progress_bars, refuse_unwritable, write_json
from .options import DeviceOption, JsonOption, RootOption, SeedOption, TransformOption

ROWS = 24  # of latents in the table; all of them are in the JSON file
IMAGES = 12  # in a row of pictures
STEPS = 9  # from one encoding to the other


def diagnose(
    run: Annotated[Path, typer.Argument(help="A folder that `pyrovae train --out` wrote.")],
    points: Annotated[
        int | None, typer.Option(min=2, help="So many of the held-out points, at random [default: all].")
    ] = None,
    samples: Annotated[int, typer.Option(min=2, help="Latent draws for each point.")] = 8,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    data: Annotated[
        str | None, typer.Option(help="Other data than the run's held-out points: all points of a file, or its 'test'.")
    ] = None,
    transform: TransformOption = None,
    root: RootOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the figures [default: RUN/diagnosis].")] = None,
    json_file: JsonOption = None,
    netcdf: Annotated[
        Path | None, typer.Option(help="Write the numbers per point and per latent there, as ArviZ's InferenceData.")
    ] = None,
) -> None:
    """Say which latents are used, how much of x they hold, and where the prior has holes."""
    restored, loaded = open_scored(run, device, data, transform, root)
    x = _some(loaded.test, points, seed)
    folder = out or run / "diagnosis"
    if folder.exists() and not folder.is_dir():
        raise Refusal(f"{folder} is a file: name a folder for the figures.")
    for path in (folder, json_file, netcdf):
        if path is not folder or not folder.is_dir():
            refuse_unwritable(path)
    with progress_bars() as progress:
        task = progress.add_task(f"diagnose {restored.name}", total=2 * len(x), note=f"{samples} samples a point")
        found = look(
            restored.model, restored.guide, x, samples, seed, progress=lambda count: progress.advance(task, count)
        )
    found = replace(found, card={**loaded.card(), **found.card})
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures(found, restored, loaded, x, seed):
        with runs.replacing(folder / name) as file:
            figure.savefig(file, dpi=150)
        written.append(name)
    if json_file is not None:
        write_json(json_file, {"card": dict(found.card), **found.to_dict()})
    if netcdf is not None:
        with runs.replacing(netcdf) as file:
            found.to_arviz().to_netcdf(str(file))
    show(found, restored.name, console())
    if written:
        print(f" figures in {folder}: {', '.join(written)}")


def _some(x: Tensor, points: int | None, seed: int) -> Tensor:
    if points is None or points == len(x):
        return x
    if points > len(x):
        raise Refusal(f"--points {points} is more than the {len(x)} held-out points: give fewer, or leave it out.")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    return x[order[:points].to(x.device)]


def figures(found: Diagnosis, run: runs.Run, data: Data, x: Tensor, seed: int) -> Iterator[tuple[str, Figure]]:
    """Each figure that this pair has, under the name of its file."""
    if found.names:
        yield "activity.png", plots.activity_curve(found)
        if (bars := plots.kl_bars(found)) is not None:
            yield "kl.png", bars
        yield "aggregate.png", plots.aggregate_and_prior(found)
    holes = found.holes
    if holes is None or data.shape is None:
        return
    structure = inspect(run.model, run.guide, x[:2] if found.means else x)

    def picture(rows: dict[str, Tensor]) -> Tensor:
        with evaluation_mode(run.model, run.guide), torch.no_grad(), fork_rng(x.device, seed):
            moved = {name: value.to(x.device) for name, value in rows.items()}
            return data.transform.grey(decode(run.model, moved, x, structure)).cpu()

    order = holes.scores.argsort()
    middle = len(order) // 2
    typical = order[middle - IMAGES // 2 : middle + IMAGES // 2]
    some = torch.linspace(0, len(x) - 1, IMAGES).long()
    yield (
        "holes.png",
        plots.hole_pictures(
            {
                f"E[x|z] at the prior's draws farthest from encodings, log q(z) up to {holes.scores[order[IMAGES - 1]]:.0f}": (
                    picture({name: value[order[:IMAGES]] for name, value in holes.latents.items()})
                ),
                f"E[x|z] at typical draws of the prior, log q(z) near {holes.scores[order[middle]]:.0f}": picture(
                    {name: value[typical] for name, value in holes.latents.items()}
                ),
                "E[x|z] at z = E[z|x] of held-out points": picture(
                    {name: value[some] for name, value in found.means.items()}
                ),
                "those points, x": data.transform.grey(x[some.to(x.device)]).cpu(),
            },
            data.shape,
        ),
    )
    if holes.pairs is None or holes.midpoints is None:
        return
    farthest = _apart(holes.pairs, holes.midpoints.argsort().tolist(), 3)
    chosen = torch.tensor([*farthest, *_apart(holes.pairs, range(len(holes.pairs)), 3)])
    pairs = holes.pairs[chosen]
    t = torch.linspace(0, 1, STEPS)
    paths = []
    for a, b in pairs.tolist():
        line = {n: torch.stack([v[a] + (v[b] - v[a]) * float(s) for s in t]) for n, v in found.means.items()}
        paths.append(picture(line))
    labels = [
        f"{kind}\nlog q {score:.0f}{', a hole' if score < holes.threshold else ''}"
        for kind, score in zip(
            ["farthest"] * len(farthest) + ["at random"] * (len(chosen) - len(farthest)),
            holes.midpoints[chosen].tolist(),
            strict=True,
        )
    ]
    ends = data.transform.grey(x[pairs.to(x.device)].flatten(0, 1)).cpu().reshape(len(pairs), 2, -1)
    title = (
        "Boundary samples: E[x|z] on the straight line between the posterior means of two held-out points,\nfor the 3 of "
        f"{len(holes.pairs)} random pairs whose midpoint is farthest from other encodings, and 3 pairs at random"
    )
    yield "boundary.png", plots.boundary_pictures(ends, torch.stack(paths), labels, data.shape, title)


def _apart(pairs: Tensor, order: Iterable[int], count: int) -> list[int]:
    """The first `count` in the order that have no point in common."""
    chosen: list[int] = []
    used: set[int] = set()
    for place in order:
        if len(chosen) < count and not used & set(pairs[place].tolist()):
            chosen.append(place)
            used |= set(pairs[place].tolist())
    return chosen


def show(found: Diagnosis, name: str, page: Console) -> None:
    """The latents, what adds up to what, and the verdict."""
    card = found.card
    parts = [_units(found)] if found.names else []
    colour = "green" if found.verdict.startswith("Fine") else "yellow"
    notes = [Padding(Text(note), (0, 0, 0, 1)) for note in found.notes]
    footer = (
        f"{name} on {card['data']}: {len(found)} points, {found.samples} samples each, seed {card['seed']}; {card['dtype']} on "
        f"{card['device']}; ± Monte Carlo ± data; pyrovae {card['pyrovae']}, torch {card['torch']}, pyro {card['pyro']}"
    )
    page.print(
        Group(
            *parts,
            *_classes(found),
            _sums(found),
            *notes,
            Padding(Text(found.verdict, style=f"bold {colour}"), (1, 0, 1, 1)),
            Padding(Text(footer, style="dim"), (0, 0, 0, 1)),
        )
    )


def _units(found: Diagnosis) -> Table:
    sheet = _sheet()
    for heading in ("latent", "Var E\\[z|x] ± data", "KL to prior, nats", ""):
        sheet.add_column(heading, justify="left" if heading in ("latent", "") else "right", no_wrap=True)
    order = found.activity.argsort(descending=True).tolist()
    for j in order[:ROWS]:
        active = bool(found.activity[j] > ACTIVE)
        sheet.add_row(
            found.names[j],
            f"{found.activity[j]:.3f} ± {found.activity_se[j]:.3f}",
            _number(float(found.unit_kl[j])),
            "active" if active else "idle",
            style=None if active else "dim",
        )
    if rest := order[ROWS:]:
        sheet.add_row(
            f"{len(rest)} more",
            f"{found.activity[rest].min():.3f} to {found.activity[rest].max():.3f}",
            f"{_number(float(found.unit_kl[rest].min()))} to {_number(float(found.unit_kl[rest].max()))}",
            f"{int((found.activity[rest] > ACTIVE).sum())} active",
        )
    return sheet


def _classes(found: Diagnosis) -> list[Table]:
    if not found.classes:
        return []
    sheet = _sheet()
    for heading in ("discrete latent", "classes", "in use, exp H(q(z))", "smallest and largest q(z = k)"):
        sheet.add_column(heading, justify="right" if heading != "discrete latent" else "left")
    for name, classes in found.classes.items():
        for place, used in enumerate(classes.used[:ROWS]):
            label = name if len(classes.used) == 1 else f"{name}[{place}]"
            sheet.add_row(
                label, str(len(used)), f"{classes.perplexity[place]:.2f}", f"{used.min():.3f}, {used.max():.3f}"
            )
    return [sheet]


def _sums(found: Diagnosis) -> Table:
    sheet = _sheet()
    sheet.add_column("in sum")
    sheet.add_column("", justify="right", no_wrap=True)
    sheet.add_column("")
    if found.names:
        sheet.add_row(
            "active units",
            f"{found.active_units()} of {len(found.names)}",
            f"Var E\\[z|x] > {ACTIVE}: Burda et al. 2016",
        )
    if len(found.site_kl) > 1:
        for site, estimate in found.site_kl.items():
            sheet.add_row(f"KL of {site}", _estimate(estimate), "")
    sheet.add_row("mean KL(q(z|x) ‖ p(z))", _estimate(found.mean_kl), "nats per point")
    (low, high), (least, most) = found.information_range, found.marginal_kl_range
    capped = ", and is at its cap" if found.mutual_information.value > found.cap - 0.1 else ""
    sheet.add_row(
        "  = I(n; z)",
        _estimate(found.mutual_information),
        f"at most log {len(found)} = {found.cap:.3f}{capped}; of all x {low:.2f} to {high:.2f}",
    )
    sheet.add_row(
        "  + KL(q(z) ‖ p(z))",
        _estimate(found.marginal_kl),
        f"of these points; of all x {max(least, 0):.2f} to {most:.2f}",
    )
    if found.holes is not None:
        sheet.add_row(
            "prior draws in holes",
            _share(found.holes.share),
            f"{TAIL:.0%} if encodings of all x had the prior's density",
        )
        if found.holes.midpoint_share is not None:
            sheet.add_row(
                "boundary samples in holes",
                _share(found.holes.midpoint_share),
                "halfway between the encodings of two points",
            )
    return sheet


def _sheet() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _number(value: float) -> str:
    return f"{value:.3f}" if value == value else "–"


def _estimate(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ± {_error(estimate.mc_se)} ± {_error(estimate.data_se)}"


def _error(value: float) -> str:
    return "<.001" if 0 < value < 5e-4 else f"{value:.3f}" if value else "0"


def _share(share: Share) -> str:
    return f"{share.value:.1%} ± {share.se:.1%}"
