"""The options that several commands share, each said once."""

from pathlib import Path
from typing import Annotated

import typer

AisOption = Annotated[bool, typer.Option("--ais", help="Add annealed importance sampling.")]
ChainsOption = Annotated[int, typer.Option(min=2, help="With --ais: chains for each point.")]
StepsOption = Annotated[
    int | None,
    typer.Option(min=1, help="With --ais: distributions that each chain passes; 100 from the posterior, else 1000."),
]
StartOption = Annotated[
    str | None,
    typer.Option(help="With --ais: where chains begin, posterior, guide or prior [default: the first that there is]."),
]
AisPointsOption = Annotated[int, typer.Option(min=2, help="With --ais: how many of the points, drawn at random.")]
BdmcOption = Annotated[
    bool, typer.Option("--bdmc", help="With --ais: also bracket log p(x) on as many points that the model draws.")
]

RunArgument = Annotated[Path, typer.Argument(help="A folder that `pyrovae train --out` wrote.")]
DataOption = Annotated[
    str, typer.Option(help="digits, mnist, iris, wine, breast_cancer, or a .npy, .npz or .csv file, a point to a row.")
]
TransformOption = Annotated[
    str | None,
    typer.Option(
        help="dequantise, standardise, logit, binarise, threshold, levels or none; the data's own if not given."
    ),
]
LabelOption = Annotated[
    str | None, typer.Option(help="A column of the file that holds labels: it is taken out of x. Its name or number.")
]
DropOption = Annotated[
    list[str] | None, typer.Option(help="A column of the file that is left out, its name or number; may be repeated.")
]
LevelsOption = Annotated[
    int | None, typer.Option(min=2, help="The file holds pixels of so many levels, 256 for bytes.")
]
DtypeOption = Annotated[
    str | None, typer.Option(help="float32 or float64; by itself float64 where float32 would blur a column.")
]
SplitSeedOption = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, help="Seed of the split and of the noise that is drawn once.")
]
RootOption = Annotated[
    Path | None, typer.Option(help="Folder that holds MNIST/raw; else $PYROVAE_DATA, else the user's cache.")
]
DownloadOption = Annotated[bool, typer.Option("--download", help="Get MNIST if it is not in the folder.")]
SeedOption = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of all random draws but the split's.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
EpochsOption = Annotated[
    int | None, typer.Option(min=0, help="Passes over the training data; each pair's own if not given.")
]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Points to a step; the pair's own if not given.")]
RateOption = Annotated[float | None, typer.Option(help="Adam's first learning rate; the pair's own if not given.")]
BoundSamplesOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Give the K-sample bound of so many draws of the guide instead, whatever its error; with --tolerance beside it.",
    ),
]
ToleranceOption = Annotated[
    float | None,
    typer.Option(help="Standard error that log p(x) of each point is to have, nats; 0.05 if neither is given."),
]
MaxDrawsOption = Annotated[
    int,
    typer.Option(min=128, help="Draws of a point at most, in pursuit of --tolerance; an annealed chain counts for 32."),
]
MaxSecondsOption = Annotated[
    float | None, typer.Option(help="Begin no further points after so many seconds; they get the K-sample bound.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option of the pair (`pyrovae models NAME`), name=value; may be repeated."),
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write everything there, in full precision.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it is an earlier run.")]
OtherDataOption = Annotated[
    str | None, typer.Option(help="Other data than the run's held-out points: all points of a file, or its 'test'.")
]
NetcdfOption = Annotated[Path | None, typer.Option(help="Write the per-point values there, as ArviZ's InferenceData.")]
