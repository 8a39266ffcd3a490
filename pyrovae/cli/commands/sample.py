"""pyrovae sample: draws of x, as a grid of images or as numbers."""

from pathlib import Path
from typing import Annotated

import typer

from ...errors import InvalidInputError
from ...utils.files import replacing
from ..common import draw_points, open_scored
from ..options import DeviceOption, RunArgument, SeedOption
from ..output import check_writable


def sample_command(
    run: RunArgument,
    num_samples: Annotated[int, typer.Option(min=1, help="How many draws.")] = 64,
    seed: SeedOption = 0,
    mean: Annotated[bool, typer.Option("--mean", help="Show E[x|z] instead of a draw of x.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="The PNG file, or a .npy file for the numbers [default: RUN/samples.png].")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw x from a trained model: a grid of images, or numbers in a .npy file."""
    restored, loaded = open_scored(run, device)
    target = out or run / "samples.png"
    check_writable(target)
    drawn = draw_points(restored, loaded, num_samples, seed, mean)
    if target.suffix not in (".png", ".npy"):
        raise InvalidInputError(f"{target} is neither .png nor .npy: name a file of one of these kinds.")
    if target.suffix == ".npy":
        import numpy

        with replacing(target) as file:
            numpy.save(file, drawn.numpy())
    elif loaded.shape is None:
        raise InvalidInputError(
            f"The points of {loaded.name} are no images: name a .npy file with --out to get the numbers."
        )
    else:
        from torchvision.utils import save_image

        columns = max(1, round(num_samples**0.5))
        grey, (height, width, *colours) = loaded.transform.grey(drawn), loaded.shape
        if colours:
            images = grey.reshape(num_samples, *loaded.shape).permute(0, 3, 1, 2)
        else:
            images = 1 - grey.reshape(num_samples, 1, height, width)
        scale = max(1, 64 // height)
        images = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        with replacing(target) as file:
            save_image(images, file, nrow=columns, padding=2, pad_value=0.8, format="png")
    print(f"{num_samples} draws of {restored.name}: {target}")
