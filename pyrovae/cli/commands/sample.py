"""pyrovae sample: draws of x, as a grid of images or as a table."""

from pathlib import Path
from typing import Annotated

import typer

from ...errors import InvalidInputError
from ...utils.files import replacing
from ..common import draw_points, open_scored
from ..options import DeviceOption, RunArgument, SeedOption
from ..output import check_table_format, check_writable, write_table


def sample_command(
    run: RunArgument,
    num_samples: Annotated[int, typer.Option(min=1, help="How many draws.")] = 64,
    seed: SeedOption = 0,
    mean: Annotated[bool, typer.Option("--mean", help="Show E[x|z] instead of a draw of x.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A .png file of images, a .csv or .parquet table, or a .npy file of x [default: samples.png or .csv "
            "in the run's folder]."
        ),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw x from a trained model: a grid of images, or a table in the units of the data."""
    restored, loaded = open_scored(run, device)
    target = out or run / ("samples.csv" if loaded.shape is None else "samples.png")
    if target.suffix not in (".png", ".npy", ".csv", ".parquet"):
        raise InvalidInputError(
            f"{target} is neither .png, .npy, .csv nor .parquet: name a file of one of these kinds."
        )
    if target.suffix == ".parquet":
        check_table_format(target)
    check_writable(target)
    drawn = draw_points(restored, loaded, num_samples, seed, mean)
    if target.suffix == ".npy":
        import numpy

        with replacing(target) as file:
            numpy.save(file, drawn.numpy())
    elif target.suffix != ".png":
        import pandas

        columns = loaded.column_names or [f"x{place}" for place in range(loaded.dim)]
        write_table(target, pandas.DataFrame(loaded.transform.to_source(drawn).numpy(), columns=list(columns)))
    elif loaded.shape is None:
        raise InvalidInputError(f"The points of {loaded.name} are no images: name a .csv file with --out.")
    else:
        from torchvision.utils import save_image

        per_row = max(1, round(num_samples**0.5))
        grey, (height, width, *colours) = loaded.transform.grey(drawn), loaded.shape
        if colours:
            images = grey.reshape(num_samples, *loaded.shape).permute(0, 3, 1, 2)
        else:
            images = 1 - grey.reshape(num_samples, 1, height, width)
        scale = max(1, 64 // height)
        images = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        with replacing(target) as file:
            save_image(images, file, nrow=per_row, padding=2, pad_value=0.8, format="png")
    print(f"{num_samples} draws of {restored.name}: {target}")
