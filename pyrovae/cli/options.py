"""The options that several commands share, each said once."""

from pathlib import Path
from typing import Annotated

import typer

MAX_SEED = 2**63 - 1


def _seed(value: int) -> int:
    if value > MAX_SEED:
        raise typer.BadParameter(f"{value} is too large for a seed: give at most {MAX_SEED}.")
    return value


AisOption = Annotated[bool, typer.Option("--ais", help="Add annealed importance sampling.")]
ChainsOption = Annotated[int, typer.Option(min=2, help="With --ais: annealing chains for each point.")]
StepsOption = Annotated[
    int | None,
    typer.Option(min=1, help="With --ais: temperatures of each chain [default: 100 from the posterior, else 1000]."),
]
StartOption = Annotated[
    str | None,
    typer.Option(
        help="With --ais: where chains begin, posterior, guide or prior [default: the first that is possible]."
    ),
]
AisPointsOption = Annotated[int, typer.Option(min=2, help="With --ais: how many points, chosen at random.")]
BdmcOption = Annotated[
    bool,
    typer.Option(
        "--bdmc", help="With --ais: also bound log p(x) from both sides, on as many points that the model draws."
    ),
]

RunArgument = Annotated[Path, typer.Argument(help="The folder of a run, which `pyrovae train` wrote.")]
DataOption = Annotated[
    str,
    typer.Option(
        help="digits, mnist, cifar10, iris, …, a file (.csv, .npy, .npz, .parquet, …), or a folder of such files or of images."
    ),
]
TransformOption = Annotated[
    str | None,
    typer.Option(
        help="dequantise, standardise, logit, binarise, threshold, levels or none [default: that of the data]."
    ),
]
LabelOption = Annotated[
    str | None, typer.Option(help="The name or number of a column that holds labels. It is taken out of x.")
]
DropOption = Annotated[
    list[str] | None, typer.Option(help="The name or number of a column to leave out; may be repeated.")
]
LevelsOption = Annotated[
    int | None, typer.Option(min=2, help="Read the numbers of the file as pixels with this many levels, such as 256.")
]
DtypeOption = Annotated[
    str | None, typer.Option(help="float32 or float64 [default: float64 only if float32 merges values of a column].")
]
SplitSeedOption = Annotated[
    int, typer.Option(min=0, callback=_seed, help="Seed of the split, and of noise that is added to the data once.")
]
RootOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the image sets that have names, such as mnist [default: $PYROVAE_DATA, or the cache]."
    ),
]
DownloadOption = Annotated[bool, typer.Option("--download", help="Download the images if they are not in the folder.")]
SeedOption = Annotated[int, typer.Option(min=0, callback=_seed, help="Seed of all random numbers except the split.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1. auto takes a GPU if there is one.")]
EpochsOption = Annotated[
    int | None, typer.Option(min=0, help="Passes over the training data [default: that of the model].")
]
BatchOption = Annotated[
    int | None, typer.Option(min=1, help="Points for each training step [default: that of the model].")
]
RateOption = Annotated[
    float | None, typer.Option(help="Learning rate of Adam at the start [default: that of the model].")
]
BoundSamplesOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Draws of the guide for the K-sample bound, which replaces the estimate. Give --tolerance too to get both.",
    ),
]
ToleranceOption = Annotated[
    float | None,
    typer.Option(
        help="Largest standard error of log p(x) of a point, in nats [default: 0.05, unless --num-samples is given]."
    ),
]
MaxDrawsOption = Annotated[
    int,
    typer.Option(min=128, help="The most draws for one point. An annealing chain counts as 32 draws."),
]
MaxSecondsOption = Annotated[
    float | None,
    typer.Option(
        help="Stop the search for modes and its draws after this many seconds, for each model. The draws of the guide are not "
        "counted. Points without draws keep the K-sample bound."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="An option of the model, name=value; may be repeated. `pyrovae models NAME` lists them."
    ),
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file, in full precision.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the folder if pyrovae wrote it.")]
OtherDataOption = Annotated[
    str | None,
    typer.Option(help="Use these data instead of the run's test points: all points of a file, or its array 'test'."),
]
NetcdfOption = Annotated[
    Path | None, typer.Option(help="Write the values of each point to this file, as an InferenceData of ArviZ.")
]
