"""pyrovae diagnose: which latents a trained pair uses, and whether its prior draws where its encodings are."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import InvalidInputError
from ...utils.files import is_first_process
from ..common import open_scored
from ..options import (
    DeviceOption,
    JsonOption,
    OtherDataOption,
    RootOption,
    RunArgument,
    SeedOption,
    TransformOption,
)
from ..output import check_writable, console, progress_bars, save_figure, write_json, write_netcdf

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from ...data.datasets import Data
    from ...diagnostics.result import LatentDiagnostics
    from ...runs.run import Run

IMAGES = 12  # in a row of pictures
STEPS = 9  # from one encoding to the other


def diagnose_command(
    run: RunArgument,
    points: Annotated[
        int | None, typer.Option(min=2, help="How many of the test points, chosen at random [default: all].")
    ] = None,
    num_samples: Annotated[int, typer.Option(min=2, help="Draws of the guide for each point.")] = 8,
    posterior: Annotated[
        bool,
        typer.Option(
            "--posterior",
            help="Diagnose the posterior p(z|x), by the Gaussian of full covariance that is nearest at each point, in place of the guide.",
        ),
    ] = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    data: OtherDataOption = None,
    transform: TransformOption = None,
    root: RootOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the figures [default: RUN/diagnosis].")] = None,
    json_file: JsonOption = None,
    netcdf: Annotated[
        Path | None, typer.Option(help="Write the numbers per point and per latent there, as ArviZ's InferenceData.")
    ] = None,
) -> None:
    """Diagnose the latent space of a run.

    The result says which latents are used, how much of x they hold, and where the prior has holes.
    """
    from ...diagnostics.diagnosing import diagnose
    from ...plots import note
    from ...posterior import FullGaussian, SemiAmortised
    from ...tables.diagnosis import show

    restored, loaded = open_scored(run, device, data, transform, root)
    x = _some(loaded.test, points, seed)
    folder = out or run / "diagnosis"
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"{folder} is a file: name a folder for the figures.")
    for path in (folder, json_file, netcdf):
        if path is not folder or not folder.is_dir():
            check_writable(path)
    with progress_bars() as progress:
        task = progress.add_task(f"diagnose {restored.name}", total=2 * len(x), note=f"{num_samples} samples a point")
        result = diagnose(
            restored.model,
            SemiAmortised(restored.model, restored.guide, FullGaussian(), seed=seed) if posterior else restored.guide,
            x,
            num_samples,
            seed,
            on_progress=lambda count: progress.advance(task, count),
        )
    whose = "posterior" if posterior else "guide"
    result = replace(result, metadata={**loaded.metadata(), **result.metadata, "diagnosed": whose})
    written = []
    if not is_first_process():
        return
    for name, figure in figures(result, restored, loaded, x, seed):
        folder.mkdir(parents=True, exist_ok=True)  # not before: a mixture has no figure
        save_figure(folder / name, note(figure, (loaded.name, restored.name, f"seed {seed}")))
        written.append(name)
    if json_file is not None:
        write_json(json_file, {"metadata": dict(result.metadata), **result.to_dict()})
    if netcdf is not None:
        write_netcdf(netcdf, result.to_arviz())
    show(result, f"{restored.name}, posterior" if posterior else restored.name, console())
    if written:
        print(f" figures in {folder}: {', '.join(written)}")


def _some(x: "Tensor", points: int | None, seed: int) -> "Tensor":
    from ...utils.random import random_rows

    if points is None or points == len(x):
        return x
    if points > len(x):
        raise InvalidInputError(
            f"--points {points} is more than the {len(x)} held-out points: give fewer, or leave it out."
        )
    return x[random_rows(x, points, seed).to(x.device)]


def figures(
    result: "LatentDiagnostics", run: "Run", data: "Data", x: "Tensor", seed: int
) -> Iterator[tuple[str, "Figure"]]:
    """Each figure that this pair has, under the name of its file."""
    import torch

    from ...pair.execution import evaluation_mode
    from ...pair.latent_rows import decode
    from ...pair.parameters import is_per_point
    from ...pair.structure import inspect_pair
    from ...plots import diagnosis as plots
    from ...utils.random import fork_rng

    if result.names:
        yield "activity.png", plots.activity_curve(result)
        if (bars := plots.kl_bars(result)) is not None:
            yield "kl.png", bars
        yield "aggregate.png", plots.aggregate_and_prior(result)
    holes = result.holes
    if holes is None or data.shape is None:
        return
    structure = inspect_pair(run.model, run.guide, x if is_per_point(run.guide, x) else x[:2])

    def picture(rows: dict[str, "Tensor"]) -> "Tensor":
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
                    {name: value[some] for name, value in result.means.items()}
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
        line = {n: torch.stack([v[a] + (v[b] - v[a]) * float(s) for s in t]) for n, v in result.means.items()}
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


def _apart(pairs: "Tensor", order: Iterable[int], count: int) -> list[int]:
    """The first `count` in the order that have no point in common."""
    chosen: list[int] = []
    used: set[int] = set()
    for index in order:
        if len(chosen) < count and not used & set(pairs[index].tolist()):
            chosen.append(index)
            used |= set(pairs[index].tolist())
    return chosen
