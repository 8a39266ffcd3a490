"""pyrovae show: a picture of what one trained pair has learned."""

from pathlib import Path
from typing import Annotated

import typer

from ...errors import InvalidInputError, did_you_mean
from ..common import open_scored
from ..options import DeviceOption, OtherDataOption, RootOption, RunArgument, SeedOption, TransformOption
from ..output import FIGURE_SUFFIXES, check_writable, save_figure
from ..pictures import PICTURES, Request


def show_command(
    run: RunArgument,
    what: Annotated[str, typer.Argument(help="What to draw: one of the words above.")],
    points: Annotated[
        list[int] | None,
        typer.Argument(help="Numbers of held-out points, from 0. traverse N starts at point N."),
    ] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="With latent: another run to draw beside; may be repeated.")
    ] = None,
    draws: Annotated[bool, typer.Option("--draws", help="With latent: draws of q(z|x) instead of means.")] = False,
    ellipses: Annotated[
        int, typer.Option(min=0, help="With latent: draw q(z|x) and p(z|x) of this many points as ellipses.")
    ] = 0,
    count: Annotated[int | None, typer.Option(min=2, help="How many points, steps or latents are shown.")] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    data: OtherDataOption = None,
    transform: TransformOption = None,
    root: RootOption = None,
    out: Annotated[
        Path | None, typer.Option(help="The figure's file, .png, .svg or .pdf [default: RUN/WHAT.png].")
    ] = None,
) -> None:
    """Draw what a run has learned, as one figure.

    WHAT is one of these:

    \b
    - reconstruct: data, their reconstructions and the differences
    - manifold: decoded x on a grid over two latents
    - latent: held-out points in the plane of two latents
    - traverse: decoded x as one latent at a time varies
    - interpolate A B: two paths from point A to point B
    - analogy A B C: A is to B as C is to the last picture
    - components: the classes of a mixture, or the directions of PCA
    - samples: new x that the model draws
    - training: the ELBO and its two terms over the epochs
    - posterior N: q(z|x) beside p(z|x) at point N
    """  # noqa: D301
    from ... import plots

    if what not in PICTURES:
        raise InvalidInputError(
            f"There is no picture '{what}'{did_you_mean(what, PICTURES)}: give {', '.join(PICTURES)}."
        )
    picture, chosen = PICTURES[what], points or []
    if len(chosen) not in picture.points:
        needed = " or ".join(map(str, picture.points))
        raise InvalidInputError(
            f"{what} takes {needed} point number{'' if picture.points == (1,) else 's'}, and {len(chosen)} were given: "
            f"{picture.example}."
        )
    target = out or run / f"{what}.png"
    if target.suffix not in FIGURE_SUFFIXES:
        raise InvalidInputError(f"{target} is no figure's file: give one that ends in {', '.join(FIGURE_SUFFIXES)}.")
    check_writable(target)
    restored, loaded = open_scored(run, device, data, transform, root)
    others = [open_scored(folder, device, data, transform, root)[0] for folder in beside or []]
    figure, caption = picture.draw(Request(restored, loaded, chosen, others, draws, ellipses, count, seed))
    save_figure(target, plots.note(figure, (loaded.name, restored.name, f"seed {restored.config.seed}")))
    print(f"{caption}\n{target}")
